"""What the exhibits need besides their SQL: which rows, whence their intervals, layout, drawing, what is below.

An exhibit that is not in here is shown as the rows of its SQL file are. Leaves out reading rows (`storage.exhibits`),
laying them out (`exhibits`) and the paper's own figures (`paper_figures.yaml`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from cyclealign.report.blocks import Table
from cyclealign.report.companions import agreement_tables, audit_tables, bias_tables, difference_tables, gains
from cyclealign.statistics import sigmoid_100

Values = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Intervals:
    """Where the intervals of an exhibit's means come from: another exhibit, which has a row per unit of chance."""

    rows: str
    by: tuple[str, ...]
    """The columns that both exhibits share; a subset `all` that the other does not have is all its rows."""
    means: Mapping[str, str | Values]
    """For each column that is a mean: the values that it is the mean of, a column or what is made of the rows."""
    unit: str = "prompt_id"
    """The unit of chance: prompts (bootstrap) or `run_name`, which differ by their seed (Student's t)."""
    only: tuple[str, str] | None = None
    """A column and the value that it must have."""


@dataclass(frozen=True)
class Wide:
    """Subsets as columns, as in the paper's tables; one table per value."""

    rows: tuple[str, ...]
    """What tells rows apart; the last of them always stands in the table."""
    values: tuple[str, ...]
    count: str
    """The column that says how much a row rests on; of its subsets the largest is shown."""


Panels = tuple[tuple[str, ...], ...]
"""The columns that each panel shows."""


@dataclass(frozen=True)
class Lines:
    """Curves over the column `x`, with their interval or their spread over seeds where the rows have one.

    One per column and combination of the `series`; `chance` is where guessing would be.
    """

    x: str
    panels: Panels
    series: tuple[str, ...] = ()
    chance: float | None = None


@dataclass(frozen=True)
class Points:
    """Means per row of the subset `all` (or per row), with their intervals."""

    labels: tuple[str, ...]
    panels: Panels
    title: str


@dataclass(frozen=True)
class Bars:
    """Win, tie and lose in percent, one bar per row."""


Drawing = Lines | Points | Bars


@dataclass(frozen=True)
class Entry:
    """What an exhibit needs besides its SQL."""

    title: str = ""
    """Where it is not the SQL file's first sentence."""
    sql: str = ""
    """The SQL file, where it is another exhibit's."""
    columns: tuple[str, ...] = ()
    """Of its rows; none: all."""
    made: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """What makes the exhibit's rows of the file's."""
    intervals: Intervals | None = None
    wide: Wide | None = None
    drawing: Drawing | None = None
    below: tuple[str, Callable[[pd.DataFrame], list[Table]]] | None = None
    """The exhibit whose rows the tables below are made from, and what makes them."""
    judged: bool = False
    """Whether the rows behind the intervals name judges that a reader has to know of."""

    def rows(self, found: pd.DataFrame) -> pd.DataFrame:
        """The exhibit's rows of those that its SQL file has."""
        made = found if self.made is None else self.made(found)
        return made[list(self.columns)] if self.columns else made


def sigmoid(name: str) -> Values:
    """100 · sigmoid of a column: the unit of the paper's Table 1."""
    return lambda rows: pd.Series(sigmoid_100(rows[name]), index=rows.index)


def gain(after: str, before: str) -> Values:
    """The difference of two columns."""
    return lambda rows: rows[after] - rows[before]


def percent(outcome: str) -> Values:
    """100 where the outcome is this one, else 0."""
    return lambda rows: 100.0 * (rows["outcome"] == outcome)


_OUTCOMES = {name: percent(name) for name in ("win", "tie", "lose")}
_CONDITIONS = ("profile", "other_settings", "reward_model", "objective", "icl", "rewrite", "rounds")
_SIDES = ("run_name", "role", "against", "subset")
_OVER_SEEDS = Intervals(
    "table_4_runs",
    by=(*_CONDITIONS, "subset"),
    means={
        "mean_reward": "reward_after",
        "mean_gain": gain("reward_after", "reward_before"),
        "sigmoid_mean_100": "sigmoid_after_100",
    },
    unit="run_name",
)
_BINS = ("first_step", "last_step", "rounds")

CATALOGUE: Mapping[str, Entry] = {
    "table_1": Entry(
        intervals=Intervals(
            "table_1_scores",
            by=("run_name", "reward_model", "role", "subset"),
            means={"sigmoid_mean_100": sigmoid("reward"), "mean_reward": "reward"},
        ),
        wide=Wide(("run_name", "reward_model", "role"), ("sigmoid_mean_100", "mean_reward"), "responses"),
        drawing=Points(("role",), (("sigmoid_mean_100",),), "mean of 100 · sigmoid(reward), all responses"),
        below=("table_1_scores", difference_tables),
    ),
    "table_2": Entry(
        intervals=Intervals("table_2_outcomes", by=(*_SIDES, "judge"), means=_OUTCOMES),
        drawing=Bars(),
        below=("table_2_verdicts", bias_tables),
        judged=True,
    ),
    "table_3": Entry(
        intervals=Intervals("table_3_verdicts", by=_SIDES, means=_OUTCOMES, only=("judge_kind", "person")),
        drawing=Bars(),
        below=("table_3_verdicts", agreement_tables),
        judged=True,
    ),
    "table_4": Entry(
        intervals=_OVER_SEEDS,
        wide=Wide(_CONDITIONS, ("sigmoid_mean_100", "mean_reward", "mean_gain"), "seeds"),
        drawing=Points(("objective", "icl", "rewrite", "rounds"), (("mean_reward",),), "mean reward, all responses"),
    ),
    "figure_4": Entry(
        drawing=Lines("last_step", (("accuracy",),), ("objective", "icl", "rewrite", "rounds"), chance=0.5)
    ),
    "figure_5": Entry(
        intervals=_OVER_SEEDS,
        wide=Wide(_CONDITIONS, ("mean_reward", "sigmoid_mean_100"), "seeds"),
        drawing=Lines("rounds", (("mean_reward",),), ("objective", "icl", "rewrite", "subset")),
    ),
    "run_gains": Entry(
        "Rewards before and after training, and how they changed",
        sql="run_scores",
        made=gains,
        intervals=Intervals(
            "run_scores",
            by=("reward_model", "subset"),
            means={
                "difference": gain("reward_after", "reward_before"),
                "before": "reward_before",
                "after": "reward_after",
            },
        ),
        drawing=Points(("subset",), (("before", "after"), ("difference",)), "mean reward"),
    ),
    "run_rewards": Entry(
        "Mean reward of every system a run compares, on the prompts of its evaluation sample (paper, Table 1)",
        sql="table_1",
        columns=("reward_model", "subset", "role", "responses", "mean_reward", "sigmoid_mean_100"),
        drawing=Points(("subset", "role"), (("mean_reward",),), "mean reward"),
    ),
    "run_agreement": Entry(
        columns=(
            *(*_BINS, "rounds_per_step", "agreement", "first_round_agreement"),
            *("identical_share", "first_round_identical_share"),
        ),
        drawing=Lines("last_step", (("agreement", "first_round_agreement"), ("rounds_per_step",))),
    ),
    "run_ranking_agreement": Entry(
        "How often black box and white box order two candidates alike while the run proceeds",
        sql="run_agreement",
        columns=(*_BINS, "kendall_tau", "first_round_kendall_tau", "pairwise_agreement"),
        drawing=Lines("last_step", (("kendall_tau", "first_round_kendall_tau"),), chance=0.0),
    ),
    "run_ranking_accuracy": Entry(
        drawing=Lines("last_step", (("white_box_accuracy", "black_box_accuracy"),), chance=0.5)
    ),
    "run_losses": Entry(
        drawing=Lines("optimizer_step", (("loss",), ("rank_loss",), ("sft_loss",), ("gradient_norm",)))
    ),
    "run_filter": Entry(
        "What the filters read and kept of the run's data set, beside the paper's counts (paper, Table 6)",
        sql="table_6",
        columns=("subset", "split", "rows_read", "pairs_kept", "drops", "paper_pairs"),
    ),
    "run_audit": Entry(below=("run_audit", audit_tables)),
}


def entry_of(name: str) -> Entry:
    """The catalogue's entry of an exhibit; an empty one where it needs nothing besides its SQL."""
    return CATALOGUE.get(name, Entry())
