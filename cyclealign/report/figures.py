"""Every figure of a run's report as plain values: what `storage.figures` collects and all renderers read.

Interval and paired statistics are computed when the figures are collected. Text in here is as the models and
the data set wrote it: renderers pass it through `cyclealign.report.untrusted`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pandas as pd

from cyclealign.statistics import Interval

ALL = "all"
"""The subset name under which figures over all responses stand."""
GROUND_TRUTHS = ("world:quality", "world:well-formedness")
"""What is known of the generated world: scores between 0 and 1, shown right after the primary reward model."""


@dataclass(frozen=True)
class RunIdentity:
    """What a run is, and how far it got."""

    name: str
    profile: str
    seed: int
    state: str
    state_reason: str | None
    steps: int
    """Planned; `steps_done` were at least sampled."""
    steps_done: int
    rounds: int
    settings: Mapping[str, Any]
    settings_digest: str
    git_commit: str | None
    package_versions: Mapping[str, str]
    machine: Mapping[str, Any]
    source_run: str | None
    kind: str
    """`cycle`, `refold` or `baseline`."""
    baseline: str | None
    """Its method, when it is one."""
    adapter_path: str | None
    weights_sha256: str | None
    created_at: str
    """ISO 8601."""
    finished_at: str | None
    elapsed_seconds: float | None
    """From the first start to the end, pauses included; None while unfinished."""
    ledger: str
    """Path of the database that all figures come from."""


@dataclass(frozen=True)
class RewardRow:
    """One subset under one reward model; all figures over the prompts that were scored before and after."""

    subset: str
    n: int
    """Prompts."""
    before: Interval
    after: Interval
    difference: Interval
    """After minus before, paired by prompt."""
    win: float
    """Share of prompts whose reward rose; `win + tie + lose` is 1."""
    tie: float
    lose: float
    sigmoid_before: float
    """Mean of 100 · sigmoid(reward): the scale of the paper's Table 1."""
    sigmoid_after: float


@dataclass(frozen=True)
class RewardTable:
    """What one reward model says, subset by subset, `all` last."""

    reward_model: str
    rows: tuple[RewardRow, ...]

    @property
    def overall(self) -> RewardRow:
        """The row over all responses."""
        return self.rows[-1]


@dataclass(frozen=True)
class TextFigures:
    """What responses look like, whatever their reward."""

    n: int
    mean_tokens: float
    distinct_2: float
    """Distinct bigrams of words over all bigrams."""
    repeated_4grams: float
    """Share of 4-grams of tokens that occurred before in the same response, mean over responses."""
    ended_share: float
    """Share of responses that ended by themselves."""


@dataclass(frozen=True)
class TextRow:
    """One subset's responses before and after."""

    subset: str
    before: TextFigures
    after: TextFigures


@dataclass(frozen=True)
class Case:
    """The same prompt before and after, chosen by rule (see `spread`)."""

    rule: str
    """Why it was chosen, for example `largest gain`."""
    subset: str
    prompt_id: str
    instruction: str
    before: str
    after: str
    reward_before: float
    reward_after: float


@dataclass(frozen=True)
class RunFigures:
    """Everything a report shows; frames have the columns of `sql/exhibits/run_<name>.sql`."""

    run: RunIdentity
    rewards: tuple[RewardTable, ...]
    """The primary reward model first; empty before the evaluation."""
    correlations: Mapping[str, float]
    """Other reward model -> Pearson correlation of its gains (after minus before) with the primary one's."""
    unpaired: int
    """Responses scored by the primary reward model that lack a scored counterpart."""
    texts: tuple[TextRow, ...]
    cases: tuple[Case, ...]
    agreement: pd.DataFrame
    ranking_agreement: pd.DataFrame
    ranking_accuracy: pd.DataFrame
    """Of one reward model: the ground truth where there is one, else the primary one; may be empty."""
    unscored: bool
    """Whether there are candidates without a reward, which the accuracy leaves out."""
    losses: pd.DataFrame
    spend: pd.DataFrame
    unranked: pd.DataFrame
    filter: pd.DataFrame
    timings: pd.DataFrame
    preference_accuracies: pd.DataFrame
    preference_correlations: pd.DataFrame
    demonstrations: pd.DataFrame

    @property
    def primary(self) -> RewardTable | None:
        """The table of the reward model that the claim rests on; None before the evaluation."""
        return self.rewards[0] if self.rewards else None

    @property
    def spent_usd(self) -> float:
        """US dollars, attempts of unknown cost at their reserve."""
        return float(self.spend["cost_usd"].sum())

    def setting(self, key: str, default: Any = None) -> Any:
        """The influential setting under a dotted key, for example `white_box.model`."""
        value: Any = self.run.settings
        for part in key.split("."):
            value = value.get(part, default) if isinstance(value, Mapping) else default
        return value


def spread(count: int, wanted: int) -> list[int]:
    """Positions of `wanted` items spread evenly over `count` sorted ones, both ends included.

    Three of them are the first, the median and the last; one alone is the median.
    """
    if wanted >= count:
        return list(range(count))
    if wanted == 1:
        return [(count - 1) // 2]
    return [round(index * (count - 1) / (wanted - 1)) for index in range(wanted)]


def rule_name(index: int, wanted: int) -> str:
    """What to call the `index`-th of `wanted` cases that `spread` chose from gains sorted largest first."""
    if wanted > 1 and index in (0, wanted - 1):
        return "largest gain" if index == 0 else "smallest gain"
    if 2 * index == wanted - 1:
        return "median gain"
    return f"{100 * index // (wanted - 1)} % of the way from the largest to the smallest gain"


def as_json(figures: RunFigures) -> dict[str, Any]:
    """The figures as nested plain values: `figures.json`, and what `cyclealign report RUN --json` prints.

    Frames become lists of records; what is not a finite number becomes null.
    """
    plain: dict[str, Any] = _plain(figures)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records", date_format="iso", double_precision=15))
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value
