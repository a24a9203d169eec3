"""A wave on SmolLM2-135M against transformers' own way: sampling, scoring and one optimizer step on all of its prompts.

Four prompts of 128 tokens, three candidates and a rewrite of 48 tokens each, a LoRA adapter on every linear layer,
float32. Ours is the white box: a prompt is read once for all its responses, logits are computed where they are needed,
scores come from a pass of their own. The other way copies the prompt for each response: `generate` with
`num_return_sequences` (cached keys and values, no gradients, evaluation mode, the adapter merged for it, as ours), then
one padded batch of full sequences, which gives the scores and is trained on, so that it needs one pass fewer: with
logits of every position, as published loops have them, and in a second row with transformers' `logits_to_keep`, for
the responses alone. Prompts are equally long, which spares it the padding. Neither stops early, so both sample the same
number of tokens, and the ratio of times is that of tokens per second. Decoded greedily, as the tests do, they sample
the same tokens, score them alike and have the same loss.

The batch of eight prompts, a wave of the shipped profile, would take 11 GiB the other way, of four it is half of that.
The weights are the model's own where `make smollm2` has put them, otherwise random ones of its shape.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import made_up_model
from benchmarks.measuring import seconds, side_by_side
from benchmarks.ranking_steps import where
from benchmarks.rows import Row, at_least
from benchmarks.shared_prefix import NEVER
from cyclealign.method.objectives import rank_loss, sft_loss
from cyclealign.offline.smollm2 import default_folder
from cyclealign.records import Prompt, TrainingExample
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.settings import LoraSettings, MethodSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box import weights
from cyclealign.white_box.sampling import decode, draw_uniforms
from cyclealign.white_box.white_box import WhiteBox

REPEATS = 3
PROMPTS, CANDIDATES = 4, 3
PROMPT_TOKENS, RESPONSE_TOKENS = 128, 48
SHAPE = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1_536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8_192,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}
PREFERENCE = (CANDIDATES, *range(CANDIDATES))
"""The rewrite first, then the candidates."""


@dataclass(frozen=True)
class Round:
    """What one side did."""

    tokens: list[list[int]]
    """Of the candidates, prompt by prompt."""
    scores: list[float]
    """log P of the candidates, nats."""
    loss: float


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times more tokens per second."""
    with model_folder() as (folder, origin):
        white_box, peer = (new_white_box(folder) for _ in range(2))
        wave, how = Wave.made_up(white_box), f"{origin} weights, {where(white_box.model)}"
        ours, found = Ours(white_box, wave), []
        for lean in (False, True):
            theirs = Theirs(peer, wave, lean=lean)
            ours.run(), theirs.run()  # warm
            pairs = side_by_side(partial(seconds, ours.run), partial(seconds, theirs.run), repeats)
            found.append(row_of(pairs, how, lean=lean))
    return found


def row_of(pairs: list[tuple[float, float]], how: str, *, lean: bool) -> Row:
    """The row of these pairs of seconds (ours, theirs); a lean peer computes no logits of the prompt."""
    tokens = PROMPTS * CANDIDATES * RESPONSE_TOKENS
    ours, theirs = (tokens / median(side) for side in zip(*pairs, strict=True))
    note = (
        f"{ours:.0f} against {theirs:.0f} sampled tokens per second, sampling, scoring and training together; "
        f"{PROMPTS} prompts of {PROMPT_TOKENS} + {CANDIDATES}·{RESPONSE_TOKENS} tokens, {how}"
    )
    ratios = tuple(theirs_s / ours_s for ours_s, theirs_s in pairs)
    name = "a wave on SmolLM2-135M against transformers' own way"
    if lean:
        return Row(f"{name}, logits of the responses alone", at_least(1.0), ratios, note=note)
    return Row(name, at_least(1.5), ratios, note=note)


@contextmanager
def model_folder() -> Iterator[tuple[Path, str]]:
    """Where the model is, and whether its weights are `pretrained` or `random`."""
    if default_folder().is_dir():
        yield default_folder(), "pretrained"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield made_up_model.save_shape(Path(folder), SHAPE), "random"


def new_white_box(folder: Path, prompt: int = PROMPT_TOKENS, response: int = RESPONSE_TOKENS) -> WhiteBox:
    """The model under a new adapter, with one optimizer step for a wave."""
    settings = WhiteBoxSettings(
        model=str(folder),
        dtype="float32",
        max_length=prompt + response,
        lora=LoraSettings(rank=8, alpha=16),
        sampling=SamplingSettings(temperature=1.0, top_p=0.95, max_new_tokens=response),
    )
    training = TrainingSettings(learning_rate=1e-3, prompts_per_optimizer_step=PROMPTS, wave=PROMPTS)
    return WhiteBox.load(settings, training, MethodSettings(candidates=CANDIDATES), seed=0)


@dataclass(frozen=True)
class Wave:
    """What both sides begin with."""

    prompts: list[Prompt]
    encoded: list[list[int]]
    """The prompts as token ids."""
    rewrites: list[list[int]]
    sampling: SamplingSettings

    @classmethod
    def made_up(
        cls,
        white_box: WhiteBox,
        words: tuple[int, ...] = (2 * PROMPT_TOKENS,) * PROMPTS,
        sampling: SamplingSettings | None = None,
    ) -> "Wave":
        """Prompts of so many words; more than fit are cut."""
        sampling = sampling or SamplingSettings(temperature=1.0, top_p=0.95, max_new_tokens=RESPONSE_TOKENS)
        vocabulary = len(white_box.prompt_format.tokenizer)
        said = [made_up_model.words(vocabulary, count, number) for number, count in enumerate(words)]
        prompts = [made_up_model.prompt_of(text) for text in said]
        rewrites = [
            made_up_model.tokens(vocabulary, sampling.max_new_tokens, "rewrite", number) for number in range(len(words))
        ]
        encoded = [white_box.encode_prompt(prompt, sampling.max_new_tokens) for prompt in prompts]
        return cls(prompts, encoded, rewrites, sampling)


@dataclass(frozen=True)
class Ours:
    """The white box, as the cycle calls it; only that nothing ends a response early."""

    white_box: WhiteBox
    wave: Wave

    def run(self) -> Round:
        """Sample, score, take a step."""
        wave, tokens = self.wave, self._sampled()
        groups = [tokens[start : start + CANDIDATES] for start in range(0, len(tokens), CANDIDATES)]
        asked = [(prompt, [tuple(one) for one in group]) for prompt, group in zip(wave.prompts, groups, strict=True)]
        scores = self.white_box.log_probabilities(asked)
        report = self.white_box.optimize(
            [
                TrainingExample(prompt, (*group, tuple(rewrite)), PREFERENCE, CANDIDATES)
                for (prompt, group), rewrite in zip(asked, wave.rewrites, strict=True)
            ]
        )
        return Round(tokens, [one.total for group in scores for one in group], report.loss)

    def _sampled(self) -> list[list[int]]:
        wave, model = self.wave, self.white_box.model.eval()
        uniforms = draw_uniforms(range(len(wave.encoded)), CANDIDATES, wave.sampling.max_new_tokens)
        with weights.merged_adapter(model):
            return decode(model, wave.encoded, uniforms, wave.sampling, NEVER)


class Theirs:
    """The same with `generate` and one padded batch.

    Args:
        white_box: Only its network is used.
        wave: What it begins with.
        lean: Whether logits are computed for the responses alone.
    """

    def __init__(self, white_box: WhiteBox, wave: Wave, *, lean: bool = False) -> None:
        self._lean = lean
        self._model = white_box.model
        self._wave = wave
        self._device = next(self._model.parameters()).device
        trained = [one for one in self._model.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)

    def run(self) -> Round:
        """Sample, then score and train on the same log-probabilities."""
        prompts, mask = self._padded(self._wave.encoded)
        tokens = self._generated(prompts, mask)
        rewrites = torch.tensor(self._wave.rewrites, device=self._device)
        responses = torch.cat([tokens.view(len(rewrites), CANDIDATES, -1), rewrites[:, None]], 1)
        totals = self._log_probabilities(prompts, mask, responses)
        p = totals / responses.shape[-1]
        loss = torch.stack(
            [rank_loss("pro", one[list(PREFERENCE)]) + (CANDIDATES - 1) ** 2 * sft_loss(one[CANDIDATES]) for one in p]
        ).mean()
        self._step(loss)
        return Round(tokens.tolist(), totals[:, :CANDIDATES].flatten().tolist(), loss.item())

    def _padded(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Ids and mask [W, longest], padded on the left."""
        longest = max(map(len, prompts))
        ids = [[0] * (longest - len(one)) + one for one in prompts]
        real = [[0] * (longest - len(one)) + [1] * len(one) for one in prompts]
        return torch.tensor(ids, device=self._device), torch.tensor(real, device=self._device)

    @torch.no_grad()
    def _generated(self, prompts: Tensor, mask: Tensor) -> Tensor:
        """Token ids [W · candidates, T]."""
        sampling = self._wave.sampling
        how: dict[str, Any] = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        how |= {"top_k": 0, "num_return_sequences": CANDIDATES}
        if sampling.temperature == 0:
            how = {"do_sample": False}
            prompts, mask = (one.repeat_interleave(CANDIDATES, 0) for one in (prompts, mask))
        self._model.eval()
        self._model.merge_adapter()
        found = self._model.generate(
            input_ids=prompts,
            attention_mask=mask,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=None,
            pad_token_id=0,
            **how,
        )
        self._model.unmerge_adapter()
        generated: Tensor = found[:, prompts.shape[1] :]
        return generated

    def _log_probabilities(self, prompts: Tensor, mask: Tensor, responses: Tensor) -> Tensor:
        """log P [W, candidates + 1] of responses [W, candidates + 1, T], with gradients."""
        count, length = responses.shape[1:]
        ids = torch.cat([prompts.repeat_interleave(count, 0), responses.flatten(0, 1)], 1)
        real = torch.cat([mask.repeat_interleave(count, 0), torch.ones_like(responses.flatten(0, 1))], 1)
        positions = (real.cumsum(-1) - 1).clamp_min(0)
        self._model.train()
        logits = self._model(
            input_ids=ids,
            attention_mask=real,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=length + 1 if self._lean else 0,
        ).logits
        values = torch.log_softmax(logits[:, -length - 1 : -1], -1)
        chosen = values.gather(-1, responses.flatten(0, 1)[..., None])[..., 0]
        totals: Tensor = chosen.sum(-1).view(-1, count)
        return totals

    def _step(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)
        trained = self._optimizer.param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
