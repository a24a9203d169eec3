"""A round of the paper's profile on a GPU: a model of LLaMA-7B's size with random weights, LoRA, bfloat16, ZeRO-2.

Three rows: the most memory that rounds take, with the seconds of each phase and the share of the GPU's peak arithmetic
that training reaches; an optimizer step against the published loop (`ranking_steps.pro_step`: a full pass per response,
logits everywhere) under the same adapter, gradient checkpointing, clipping and AdamW, on a network of its own; sampling
with compiled passes against the usual ones. Without a CUDA device all three are "not measured". The tests run the same
on the CPU with a small model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks import made_up_model
from benchmarks.made_up_model import NAMES
from benchmarks.measuring import seconds
from benchmarks.ranking_steps import pro_step
from benchmarks.rows import Row, at_least, at_most
from cyclealign.records import Prompt, TrainingExample
from cyclealign.settings import Settings
from cyclealign.white_box.loading import Pretrained, resolve_device, resolve_dtype
from cyclealign.white_box.white_box import WhiteBox
from tasks.context import load_settings

REPEATS = 5
PROFILE = "paper-llama-7b-pro"
PROMPT_TOKENS = 256
LLAMA_7B: Mapping[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 4_096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2_048,
}
PEAK_FLOPS: Mapping[str, float] = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second by a part of the GPU's name, from NVIDIA's data sheets."""
MEMORY, TRAINING, COMPILED = (
    Row("rounds at LLaMA-7B's size on a GPU: peak memory", at_most(24.0), unit="GiB"),
    Row("training at LLaMA-7B's size on a GPU against the published loop", at_least(2.0)),
    Row("sampling at LLaMA-7B's size on a GPU with compiled passes against the usual ones", at_least(1.0)),
)


@dataclass
class Measured:
    """Seconds per repeat by phase, and memory in GiB."""

    sampling: list[float] = field(default_factory=list)
    compiled: list[float] = field(default_factory=list)
    scoring: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    """Of an optimizer step, ours and the published one's."""
    peak: float = 0.0
    """Of rounds of ours, the model's weights among it."""
    published_peak: float = 0.0
    flops: float = 0.0
    """Of an optimizer step of ours."""


def rows(repeats: int = REPEATS) -> list[Row]:
    """The three rows."""
    if not torch.cuda.is_available():
        return [Row(row.name, row.bar, unit=row.unit, note="no CUDA device") for row in (MEMORY, TRAINING, COMPILED)]
    settings = load_settings(PROFILE, {})
    return rows_of(measured(settings, LLAMA_7B, PROMPT_TOKENS, repeats), torch.cuda.get_device_name())


def rows_of(found: Measured, device: str) -> list[Row]:
    """The three rows of what was measured on a device of that name."""
    sampling, compiled, scoring, training, published = (
        median(phase) for phase in (found.sampling, found.compiled, found.scoring, found.training, found.published)
    )
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in device), None)
    used = "" if peak is None else f" ({100 * found.flops / training / peak:.0f} % of the GPU's peak arithmetic)"
    phases = f"a round: sampling {sampling:.2f} s, scoring {scoring:.2f} s, training {training:.2f} s{used}; {device}"
    against = (
        f"{training:.2f} s against {published:.2f} s, {found.peak:.1f} GiB against {found.published_peak:.1f} GiB; "
        f"{device}"
    )
    steps = tuple(theirs / ours for ours, theirs in zip(found.training, found.published, strict=True))
    samplings = tuple(usual / fast for usual, fast in zip(found.sampling, found.compiled, strict=True))
    return [
        Row(MEMORY.name, MEMORY.bar, (found.peak,), MEMORY.unit, phases),
        Row(TRAINING.name, TRAINING.bar, steps, note=against),
        Row(COMPILED.name, COMPILED.bar, samplings, note=f"{compiled:.2f} s against {sampling:.2f} s; {device}"),
    ]


def measured(settings: Settings, shape: Mapping[str, Any], prompt_tokens: int, repeats: int) -> Measured:
    """Rounds of one prompt each under these settings, with a model of this shape."""
    found = Measured()
    ours = Side(settings, shape, prompt_tokens)
    for number in range(2):  # the first also warms
        ours.prepare(number)
        found.peak = peak_of(ours.round)
    engine = settings.training.model_copy(update={"engine": "torch"})
    published = Published(settings.model_copy(update={"training": engine}), shape, prompt_tokens)
    ours.sample("compiled")
    published.prepare(0)
    published.take(ours)
    alone = allocated()
    published.train()
    found.published_peak = peak_of(published.train) - (alone - published.weights)
    for number in range(2, repeats + 2):
        ours.prepare(number)
        published.prepare(number)
        found.sampling.append(seconds(lambda: ours.sample("transformers")))
        found.compiled.append(seconds(lambda: ours.sample("compiled")))
        found.scoring.append(seconds(ours.score))
        published.take(ours)
        found.training.append(seconds(ours.train))
        found.published.append(seconds(published.train))
        found.losses.append((ours.loss, published.loss))
    # forward, and backward to the activations: the frozen weights need no gradients
    parameters = sum(one.numel() for one in ours.white_box.model.parameters())
    found.flops = 4 * parameters * (prompt_tokens + sum(map(len, ours.responses)))
    return found


class Side:
    """The white box of the settings with random weights of a shape, and a round of it."""

    def __init__(self, settings: Settings, shape: Mapping[str, Any], prompt_tokens: int) -> None:
        self.settings, self.prompt_tokens = settings, prompt_tokens
        device, before = resolve_device(settings.white_box), allocated()
        model = made_up_model.of_shape(shape, str(device), resolve_dtype(settings.white_box, device))
        pretrained = Pretrained(model.eval(), made_up_model.tokenizer(shape["vocab_size"]), {"model": "made up"})
        self.white_box = WhiteBox.under_new_adapter(
            pretrained, settings.white_box, settings.training, settings.method, seed=0
        )
        self.weights = allocated() - before
        self.loss = float("nan")
        self.prompt: Prompt
        self.responses: list[tuple[int, ...]]

    def prepare(self, number: int) -> None:
        """Take another prompt."""
        vocabulary = len(self.white_box.prompt_format.tokenizer)
        self.number = number
        self.prompt = made_up_model.prompt_of(made_up_model.words(vocabulary, self.prompt_tokens - NAMES, number))
        length = self.settings.white_box.sampling.max_new_tokens
        self.rewrite = tuple(made_up_model.tokens(vocabulary, length, "rewrite", number))

    def round(self) -> None:
        """All three phases."""
        self.sample("transformers")
        self.score()
        self.train()

    def sample(self, engine: str) -> None:
        """The candidates."""
        sampling = self.settings.white_box.sampling.model_copy(update={"engine": engine})
        candidates = self.settings.method.candidates
        [sampled] = self.white_box.sample([self.prompt], [self.number], candidates, sampling)
        self.responses = [self.rewrite, *(one.tokens for one in sampled)]

    def score(self) -> None:
        """The candidates again, as the agreement needs it."""
        self.white_box.log_probabilities([(self.prompt, self.responses[1:])])

    def train(self) -> None:
        """An optimizer step on the rewrite, which is best, and the candidates in their order."""
        order = tuple(range(len(self.responses)))
        report = self.white_box.optimize([TrainingExample(self.prompt, tuple(self.responses), order, 0)])
        self.loss = report.loss


class Published(Side):
    """PRO's loop on a network of its own, on what the other side sampled."""

    def __init__(self, settings: Settings, shape: Mapping[str, Any], prompt_tokens: int) -> None:
        super().__init__(settings, shape, prompt_tokens)
        self._trained = [one for one in self.white_box.model.parameters() if one.requires_grad]
        training = settings.training
        self._optimizer = torch.optim.AdamW(self._trained, lr=training.learning_rate, weight_decay=0.0)

    def take(self, other: Side) -> None:
        """Its responses."""
        self.responses = other.responses

    def train(self) -> None:
        """An optimizer step as published."""
        model = self.white_box.model.train()
        reserve = self.settings.white_box.sampling.max_new_tokens
        prompt = self.white_box.encode_prompt(self.prompt, reserve)
        loss = pro_step(model, prompt, list(map(list, self.responses)), self.settings.method.lambda_sft)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._trained, self.settings.training.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.loss = loss.item()


def peak_of(work: Callable[[], object]) -> float:
    """The most memory on the device in GiB while it works; 0 on the CPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds(work)
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0


def allocated() -> float:
    """Memory in use on the device in GiB; 0 on the CPU."""
    return torch.cuda.memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
