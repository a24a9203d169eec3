"""The values that flow between the parts: dialogues, responses, examples to train on, chat requests.

Plain frozen dataclasses without behaviour of their own; storage identity (keys, row ids) lives in `storage`.
Rankings are tuples of candidate ids, best first; ranks are 0-based, 0 = best; log-probabilities are in nats.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Speaker = Literal["human", "assistant"]
Split = Literal["train", "test"]
SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
"""The four subsets of HH-RLHF in the order of the paper's tables; names are the hub's folder names."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's turn, stripped of surrounding white space."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A dialogue of HH-RLHF up to and including the last human turn."""

    prompt_id: str
    subset: str
    split: Split
    turns: tuple[Turn, ...]

    @property
    def instruction(self) -> str:
        """The dialogue as the ranking prompt shows it: `Human: …`, `Assistant: …`, open at the end."""
        return render_dialogue(self.turns)

    @classmethod
    def from_turns(cls, subset: str, split: Split, turns: Sequence[Turn]) -> "Prompt":
        """The prompt of these turns; its id is derived from the text alone, so equal prompts share it."""
        return cls(prompt_id(turns), subset, split, tuple(turns))


def render_dialogue(turns: Sequence[Turn]) -> str:
    """HH-RLHF's plain text of these turns, ending with an open `Assistant:`."""
    parts = [f"{turn.speaker.capitalize()}: {turn.text}" for turn in turns]
    return "\n\n".join([*parts, "Assistant:"])


def prompt_id(turns: Sequence[Turn]) -> str:
    """Sixteen hexadecimal digits of the sha-256 of the dialogue's plain text."""
    return hashlib.sha256(render_dialogue(turns).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt with the reply that HH-RLHF's annotators chose and the one they rejected."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Response:
    """A response of a white-box model.

    `tokens` includes the token that ended it, where one did and not the next speaker's mark; `text` never shows it.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class LogProbability:
    """log P(y | x) of one response under the white-box model."""

    total: float
    """Sum over the response's tokens, nats."""
    tokens: int

    @property
    def mean(self) -> float:
        """p(y) of the paper: the sum divided by the number of response tokens, nats per token."""
        return self.total / self.tokens


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """What one prompt contributes to an optimizer step.

    `responses` are token ids. `preference` lists the indices that L_rank orders, best first (empty: L_rank is 0).
    `target` is the index of y¹, the SFT target (None: L_sft is 0).
    """

    prompt: Prompt
    responses: tuple[tuple[int, ...], ...]
    preference: tuple[int, ...]
    target: int | None


@dataclass(frozen=True, slots=True)
class OptimizerReport:
    """Figures of one optimizer step, and the losses of each example in it."""

    loss: float
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    rank_losses: tuple[float, ...]
    """L_rank per example, in the order of the examples."""
    sft_losses: tuple[float, ...]
    """L_sft per example, before λ."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back with HTTP status 200, before anybody judged it."""

    raw: str
    """The body as received."""
    content: str | None
    refusal: str | None
    finish_reason: str | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Unranked:
    """Why a round has no ranking; it trains nothing (METHOD, "One step")."""

    reason: Literal["refusal", "truncated", "malformed", "content_filter", "call_rejected", "call_failed", "duplicates"]
    detail: str


@dataclass(frozen=True, slots=True)
class PreferenceAccuracy:
    """How often a fitted preference model prefers the chosen reply of held-out pairs; `subset` may be `all`."""

    reward_model: str
    subset: str
    pairs: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class PreferenceCorrelation:
    """How alike two preference models that were fitted together judge held-out pairs."""

    reward_model: str
    other_model: str
    pairs: int
    correlation: float
    """Pearson's, of the two models' differences between chosen and rejected."""
