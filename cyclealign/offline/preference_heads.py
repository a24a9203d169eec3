"""Preference heads: linear opinions about the states of a frozen pretrained model, and the files that keep them.

A row is a dialogue with responses to it. The prompt is written without a system message and cut on the left,
responses are cut on the right; a layer's states are averaged over the response's tokens, or the prompt's. Annotators'
harmless and helpful pull in opposite directions, so there is one head for harmless-base and one for the helpful
subsets; a single head over both is near chance. Leaves out which pairs fit them (`preference`).
"""

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from cyclealign.errors import ModelError
from cyclealign.offline.regression import Array, logistic_weights
from cyclealign.records import Turn
from cyclealign.settings import WhiteBoxSettings
from cyclealign.white_box.loading import load_pretrained
from cyclealign.white_box.prompt_format import PromptFormat
from cyclealign.white_box.sequence_scores import Row, pack

States = NDArray[np.float32]
Flags = NDArray[np.bool_]
Progress = Callable[[str, float], None]
"""Called with what is going on and the share that is done, 0 to 1."""
Dialogue = tuple[Sequence[Turn], Sequence[str]]
"""The turns of a prompt, and responses to it."""

CONTEXT_TOKENS = 512
"""The longest text that a frozen model must take."""
BATCH_TOKENS = 4096
"""Tokens in one pass, padding included; bounds the memory."""
HEAD_STRENGTH = 30.0
"""Ridge penalty of every preference head, on standardised states and the mean loss.

Cross-validated accuracy on training pairs is best here and hardly worse from 1 to 100. Towards the upper end every
head becomes the direction from the mean rejected to the mean chosen state: hence two of them are so alike.
"""
GATE_STRENGTH = 0.03
"""Ridge penalty of the gate, likewise: the smallest cross-validated loss on training prompts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The part of each row that is read."""

    layers: tuple[int, ...]
    """Y depths, 1 = the first layer's output."""
    prompt_tokens: int
    """The prompt's last tokens that are kept."""
    response_tokens: int
    """A response's first tokens that are kept."""


@dataclass(frozen=True, slots=True)
class PooledStates:
    """One row's states, averaged over tokens (H hidden units)."""

    prompt: States
    """[Y, H]"""
    responses: States
    """[R, Y, H]"""


@dataclass(frozen=True, slots=True)
class FrozenModel:
    """A pretrained causal LM that is only read, with its tokenizer."""

    model: Any
    tokenizer: Any
    identity: str

    def row(self, dialogue: Dialogue, reading: Reading) -> Row:
        """Token ids of a prompt and its responses.

        Responses come without an end-of-sequence token, so that a text that broke off at a limit is read like one
        that ended; only an empty response is that token alone.
        """
        turns, responses = dialogue
        form = _format_of(self.tokenizer)
        prompt = form.encode(turns, budget=sys.maxsize)[-reading.prompt_tokens :]
        # One token more than is kept: the one dropped is the end-of-sequence token or the first too many.
        replies = [form.encode_reply(text, reading.response_tokens + 1).tokens for text in responses]
        return prompt, [tokens[:-1] or tokens for tokens in replies]


@lru_cache(maxsize=1)
def _format_of(tokenizer: Any) -> PromptFormat:
    return PromptFormat(tokenizer, "auto", system_prompt=None)


@lru_cache(maxsize=1)
def load_frozen(folder: Path) -> FrozenModel:
    """The model in `folder`, in float32, on the GPU where there is one.

    The last one stays loaded: the judge, its writer and the reward model of a run read the same weights.

    Raises:
        ModelError: the folder does not hold a causal LM with its tokenizer.
    """
    identity = model_identity(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = WhiteBoxSettings(model=str(folder), dtype="float32", max_length=CONTEXT_TOKENS)
    loaded = load_pretrained(settings, None, device)
    return FrozenModel(loaded.model, loaded.tokenizer, identity)


def model_identity(folder: Path) -> str:
    """Sixteen hexadecimal digits of the sha-256 over weights, config and tokenizer in `folder`.

    Raises:
        ModelError: there are no safetensors weights in `folder`.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"No *.safetensors in {folder}: expected the folder of a pretrained model. `make smollm2` makes one."
        )
    digest = hashlib.sha256()
    texts = [*folder.glob("config.json"), *folder.glob("tokenizer*.json"), *folder.glob("*.jinja")]
    for file in [*weights, *sorted(texts)]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def pooled_states(
    frozen: FrozenModel, dialogues: Sequence[Dialogue], reading: Reading, progress: Progress = lambda *_: None
) -> list[PooledStates]:
    """The states of every row, in the order of `dialogues`.

    Rows of similar length share a pass. Rounding in the seventh digit depends on what shares it: where that matters,
    ask for one row at a time.

    Raises:
        ModelError: the model lacks one of the layers.
    """
    rows = [frozen.row(dialogue, reading) for dialogue in dialogues]
    sizes = [len(prompt) + sum(map(len, responses)) for prompt, responses in rows]
    pooled: dict[int, PooledStates] = {}
    done = 0
    for batch in _batches(sizes):
        states = _run(frozen, [rows[index] for index in batch], reading.layers)
        pooled.update(zip(batch, states, strict=True))
        done += sum(sizes[index] for index in batch)
        progress(f"{len(pooled)}/{len(rows)} dialogues read", done / sum(sizes))
    return [pooled[index] for index in range(len(rows))]


def _batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Indices in order of size, in groups of at most `BATCH_TOKENS` padded tokens (or a single row)."""
    batch: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: (sizes[index], index)):
        if batch and sizes[index] * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def _run(frozen: FrozenModel, rows: Sequence[Row], layers: Sequence[int]) -> list[PooledStates]:
    trunk, taps = _tapped_trunk(frozen.model, layers)
    packed = pack(rows, frozen.tokenizer.eos_token_id, next(frozen.model.parameters()))
    trunk(
        input_ids=packed.token_ids,
        attention_mask=packed.attention_mask,
        position_ids=packed.position_ids,
        use_cache=False,
    )
    pooled = []
    for states, spans in zip(torch.stack([tap.output for tap in taps], dim=1), packed.spans, strict=True):
        prompt = states[:, : spans[0].prompt_end].mean(1)
        responses = torch.stack([states[:, span.start : span.end].mean(1) for span in spans])
        pooled.append(PooledStates(prompt.cpu().numpy(), responses.cpu().numpy()))
    return pooled


class _Tap(nn.Module):
    """A layer that remembers its last output [B, L, H]."""

    output: torch.Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any, **options: Any) -> Any:
        result = self.layer(*inputs, **options)
        self.output = result[0] if isinstance(result, tuple) else result
        return result


def _tapped_trunk(model: Any, layers: Sequence[int]) -> tuple[nn.Module, list[_Tap]]:
    """The model without its head and without the layers behind the deepest of `layers`, each of those tapped.

    It shares the model's parameters and leaves the model as it is, so that several threads may read at once.
    """
    stack = getattr(model.base_model, "layers", None)
    if not isinstance(stack, nn.ModuleList) or not 1 <= min(layers) <= max(layers) <= len(stack):
        found = f"{len(stack)} layers" if isinstance(stack, nn.ModuleList) else "no list of layers"
        raise ModelError(
            f"{type(model).__name__} has {found}; the preference settings read layers {list(layers)}. "
            "Lower preference.judge_layer and preference.evaluation_layer, or name another model."
        )
    taps = {depth: _Tap(stack[depth - 1]) for depth in layers}
    kept = [taps.get(depth, stack[depth - 1]) for depth in range(1, max(layers) + 1)]
    trunk = copy.copy(model.base_model)
    trunk._modules = {**trunk._modules, "layers": nn.ModuleList(kept)}
    return trunk, [taps[depth] for depth in layers]


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceHead:
    """How good a response is in annotators' eyes, in standard deviations over the responses it was fitted on.

    Scores are standardised and the fits weak: the sigmoid of a difference is *not* the probability that one response
    is preferred to another.
    """

    harmless: Array
    """Weights with the offset behind them, [H + 1], like every linear score here."""
    helpful: Array

    def score(self, states: Array, harmless: Array) -> Array:
        """Scores [N] of states [N, H]; `harmless` [N]: probability that the prompt is of harmless-base."""
        return harmless * linear(states, self.harmless) + (1 - harmless) * linear(states, self.helpful)


def linear(states: Array, weights: Array) -> Array:
    """Scores [N] of states [N, H] under weights with the offset behind them, [H + 1]."""
    return np.asarray(states @ weights[:-1] + weights[-1], np.float64)


def fit_head(states: Array, harmless: Flags) -> PreferenceHead:
    """The heads of N pairs with states [N, 2, H], chosen first; `harmless` [N]: whether a pair is of harmless-base."""
    spread = states.reshape(-1, states.shape[-1]).std(0)

    def fit(states: Array) -> Array:
        """Direction by logistic regression, scale by the responses' own spread."""
        direction = logistic_weights((states[:, 0] - states[:, 1]) / spread, HEAD_STRENGTH) / spread
        scores = states.reshape(-1, states.shape[-1]) @ direction
        return np.append(direction / scores.std(), -scores.mean() / scores.std())

    return PreferenceHead(fit(states[harmless]), fit(states[~harmless]))


def fit_gate(states: Array, harmless: Flags) -> Array:
    """The linear logit [H + 1] that a prompt is of harmless-base, from N prompts with states [N, H]."""
    mean, spread = states.mean(0), states.std(0)
    rows = np.hstack([(states - mean) / spread, np.ones((len(states), 1))])
    *slopes, constant = logistic_weights(rows * np.where(harmless, 1, -1)[:, None], GATE_STRENGTH)
    weights = np.array(slopes) / spread
    return np.append(weights, constant - mean @ weights)


@dataclass(frozen=True, slots=True, eq=False)
class FittedArrays:
    """The contents of a file of fitted heads."""

    identity: str
    """Names these heads wherever one of their figures is stored."""
    frozen_model: str
    """Identity of the model whose states they read."""
    reading: Reading
    arrays: dict[str, Array]

    def save(self, path: Path) -> None:
        """Writes safetensors with the rest as its header."""
        reading = json.dumps(astuple(self.reading))
        header = {"identity": self.identity, "frozen_model": self.frozen_model, "reading": reading}
        save_file(self.arrays, path, metadata=header)

    @classmethod
    def load(cls, path: Path, frozen_model: str) -> "FittedArrays":
        """The arrays in `path`.

        Raises:
            ModelError: there are none, the file is broken, or they were fitted on the states of another model.
        """
        if not path.is_file():
            raise ModelError(f"No preference heads at {path}: `build_preference` fits them.")
        try:
            with safe_open(path, framework="np") as opened:
                header = opened.metadata()
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no iterator
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}. Remove its folder to fit the heads anew.") from None
        if header["frozen_model"] != frozen_model:
            raise ModelError(
                f"{path} was fitted on the states of model {header['frozen_model']}, found model "
                f"{frozen_model}. Use the model that it was fitted on, or fit anew."
            )
        layers, prompt_tokens, response_tokens = json.loads(header["reading"])
        return cls(header["identity"], frozen_model, Reading(tuple(layers), prompt_tokens, response_tokens), arrays)
