"""The values that a round leaves behind: what was sampled, how it was ranked, what was trained on it."""

from dataclasses import dataclass

from cyclealign.method.demonstrations import AdmittedDemonstration
from cyclealign.records import Answer, LogProbability, Response, Unranked


@dataclass(frozen=True, slots=True)
class SampledRound:
    """The candidates of one round and the white-box model's opinion of them."""

    step: int
    round: int
    wave: int
    prompt_id: str
    responses: tuple[Response, ...]
    log_probabilities: tuple[LogProbability, ...]
    white_box_ranking: tuple[int, ...]
    """Candidate ids, best first."""
    sampling_seconds: float
    """Of the wave, shared equally among its rounds; so are the other seconds."""
    scoring_seconds: float


@dataclass(frozen=True, slots=True)
class RankedRound:
    """What asking the black-box model about one round came to."""

    step: int
    round: int
    answer: Answer | None
    """None when the round could not be ranked; then `unranked` says why."""
    unranked: Unranked | None
    call_key: str | None
    """The call whose answer was accepted."""
    asks: int
    permutation: tuple[int, ...]
    """`permutation[i]` is the candidate id shown at position i."""
    demonstrations_shown: tuple[int, ...]
    """Numbers of the demonstrations in the ranking prompt, in order."""
    agreement: tuple[int, ...]
    """Candidate ids, best first; empty without a ranking."""
    stops_step: bool
    admitted: AdmittedDemonstration | None
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class TrainedRound:
    """The optimizer step that one round took part in."""

    step: int
    round: int
    optimizer_step: int | None
    loss: float
    """rank_loss + λ · sft_loss of this prompt."""
    rank_loss: float
    sft_loss: float
    gradient_norm: float
    """Before clipping, of the whole optimizer step."""
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordedRound:
    """What the ledger holds of one round; None for what had not happened yet."""

    sampled: SampledRound
    ranked: RankedRound | None
    trained: TrainedRound | None
