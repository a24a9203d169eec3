"""A round of the paper's profile on a GPU: a model of LLaMA-7B's size with random weights, LoRA, bfloat16, ZeRO-2.

Three rows: the most memory that rounds take, with the seconds of each phase and the share of the GPU's peak arithmetic
that training reaches; an optimizer step against the published loop (`published_steps.pro_step`: a full pass per
response, logits everywhere) under the same adapter, gradient checkpointing, clipping and AdamW, on its own network;
sampling with compiled passes against the usual ones. Losses of both sides have to agree. Without a CUDA device all
three are "not measured"; `measured` runs on a CPU with a small shape.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks import made_up
from benchmarks.measuring import Row, seconds, speedups
from benchmarks.published_steps import pro_step
from cyclealign.records import Prompt, TrainingExample
from cyclealign.settings import Settings
from cyclealign.white_box.loading import Pretrained, Recipe, resolve_device, resolve_dtype
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

MISSING = "no CUDA device"
MEMORY = Row("rounds at LLaMA-7B's size on a GPU: peak memory", unit="GiB", note=MISSING, at_most=24.0)
TRAINING = Row("training at LLaMA-7B's size on a GPU against the published loop", note=MISSING, at_least=2.0)
COMPILED = Row(
    "sampling at LLaMA-7B's size on a GPU with compiled passes against the usual ones", note=MISSING, at_least=1.0
)


@dataclass
class Measured:
    """Seconds per repeat by phase, and memory in GiB."""

    phases: dict[str, list[float]] = field(default_factory=dict)
    """`sampling`, `compiled` (sampling), `scoring`, `training`, `published` (training)."""
    losses: list[tuple[float, float]] = field(default_factory=list)
    """Of an optimizer step, ours and the published one's."""
    peak: float = 0.0
    """Of rounds of ours, the model's weights among it."""
    published_peak: float = 0.0
    flops: float = 0.0
    """Of an optimizer step of ours."""

    def take(self, phase: str, work: Callable[[], object]) -> None:
        """Add the seconds of one repeat."""
        self.phases.setdefault(phase, []).append(seconds(work))

    def against(self, ours: str, peer: str) -> tuple[float, ...]:
        """How many times as long the peer's phase takes."""
        return speedups(zip(self.phases[ours], self.phases[peer], strict=True))


def rows(repeats: int = REPEATS) -> list[Row]:
    """Memory of rounds, training against the published loop, compiled passes against the usual ones."""
    if not torch.cuda.is_available():
        return [MEMORY, TRAINING, COMPILED]
    found, device = measured(load_settings(PROFILE, {}), LLAMA_7B, PROMPT_TOKENS, repeats), torch.cuda.get_device_name()
    s = {phase: median(values) for phase, values in found.phases.items()}
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in device), None)
    used = "" if peak is None else f" ({100 * found.flops / s['training'] / peak:.0f} % of the GPU's peak arithmetic)"
    phases = f"sampling {s['sampling']:.2f} s, scoring {s['scoring']:.2f} s, training {s['training']:.2f} s{used}"
    steps = f"{s['training']:.2f} s against {s['published']:.2f} s"
    peaks = f"{found.peak:.1f} GiB against {found.published_peak:.1f} GiB"
    faster = f"{s['compiled']:.2f} s against {s['sampling']:.2f} s"
    return [
        replace(MEMORY, values=(found.peak,), note=f"a round: {phases}; {device}"),
        replace(TRAINING, values=found.against("training", "published"), note=f"{steps}, {peaks}; {device}"),
        replace(COMPILED, values=found.against("compiled", "sampling"), note=f"{faster}; {device}"),
    ]


def measured(settings: Settings, shape: Mapping[str, Any], prompt_tokens: int, repeats: int) -> Measured:
    """Rounds of one prompt each under these settings, with a model of this shape."""
    found, ours = Measured(), Side(settings, shape, prompt_tokens)
    for number in range(2):  # the first also warms
        ours.prepare(number)
        found.peak = peak_of(ours.round)
    engine = settings.training.model_copy(update={"engine": "torch"})
    published = Published(settings.model_copy(update={"training": engine}), shape, prompt_tokens)
    ours.sample("compiled")
    published.prepare(ours)
    alone = allocated()
    published.train()
    found.published_peak = peak_of(published.train) - (alone - published.weights)
    for number in range(2, repeats + 2):
        ours.prepare(number)
        found.take("sampling", lambda: ours.sample("transformers"))
        found.take("compiled", lambda: ours.sample("compiled"))
        found.take("scoring", ours.score)
        published.prepare(ours)
        found.take("training", ours.train)
        found.take("published", published.train)
        found.losses.append((ours.loss, published.loss))
    # the profile's learning rate is so small that the warm-up moves no loss by more; bfloat16 has three digits
    torch.testing.assert_close(*map(torch.tensor, zip(*found.losses, strict=True)), rtol=2e-2, atol=0)
    # forward, and backward to the activations: the frozen weights need no gradients
    parameters = sum(one.numel() for one in ours.white_box.model.parameters())
    found.flops = 4 * parameters * (prompt_tokens + sum(map(len, ours.responses)))
    return found


class Side:
    """The white box of the settings with random weights of a shape, and a round of it."""

    def __init__(self, settings: Settings, shape: Mapping[str, Any], prompt_tokens: int) -> None:
        self.settings, self.prompt_tokens, self.vocabulary = settings, prompt_tokens, shape["vocab_size"]
        device, before = resolve_device(settings.white_box), allocated()
        model = made_up.model(shape, str(device), resolve_dtype(settings.white_box, device))
        pretrained = Pretrained(model.eval(), made_up.tokenizer(self.vocabulary), {"model": "made up"})
        recipe = Recipe(settings.white_box, settings.training, settings.method, seed=0)
        self.white_box = WhiteBox.under_new_adapter(pretrained, recipe)
        self.weights, self.loss = allocated() - before, float("nan")
        self.prompt: Prompt
        self.responses: list[tuple[int, ...]]

    def prepare(self, number: int) -> None:
        """Take another prompt."""
        self.number, self.prompt = number, made_up.prompt(self.vocabulary, self.prompt_tokens, number)

    def round(self) -> None:
        """All three phases."""
        self.sample("transformers")
        self.score()
        self.train()

    def sample(self, engine: str) -> None:
        """The candidates, behind a rewrite."""
        sampling = self.settings.white_box.sampling.model_copy(update={"engine": engine})
        [sampled] = self.white_box.sample([self.prompt], [self.number], self.settings.method.candidates, sampling)
        rewrite = made_up.tokens(self.vocabulary, sampling.max_new_tokens, "rewrite", self.number)
        self.responses = [tuple(rewrite), *(one.tokens for one in sampled)]

    def score(self) -> None:
        """The candidates again, as the agreement needs it."""
        self.white_box.log_probabilities([(self.prompt, self.responses[1:])])

    def train(self) -> None:
        """An optimizer step on the rewrite, which is best, and the candidates in their order."""
        order = tuple(range(len(self.responses)))
        self.loss = self.white_box.optimize([TrainingExample(self.prompt, tuple(self.responses), order, 0)]).loss


class Published:
    """PRO's loop on a network of its own, on what the other side sampled."""

    def __init__(self, settings: Settings, shape: Mapping[str, Any], prompt_tokens: int) -> None:
        own = Side(settings, shape, prompt_tokens)
        self._settings, self._white_box, self.weights = settings, own.white_box, own.weights
        self._trained = [one for one in self._white_box.model.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=settings.training.learning_rate, weight_decay=0.0)

    def prepare(self, side: Side) -> None:
        """Take the other side's prompt and responses."""
        reserve = self._settings.white_box.sampling.max_new_tokens
        self._prompt = self._white_box.encode_prompt(side.prompt, reserve)
        self._responses = list(map(list, side.responses))

    def train(self) -> None:
        """An optimizer step as published."""
        model = self._white_box.model.train()
        loss = pro_step(model, self._prompt, self._responses, self._settings.method.lambda_sft)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._trained, self._settings.training.clip_norm)
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
