"""What the exhibits need besides their SQL: where their intervals come from, how they are laid out and drawn.

An exhibit that is not in here is shown as its rows are. Leaves out reading rows (`storage.exhibits`), laying them
out (`exhibits`) and the paper's own figures (`paper_figures.yaml`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from cyclealign.report.companion_tables import agreement_tables, bias_tables, difference_tables
from cyclealign.report.exhibit_plots import Bars, Drawing, Lines, Points
from cyclealign.report.tables import Table
from cyclealign.statistics import sigmoid_100

Values = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Intervals:
    """Where the intervals of an exhibit's means come from: another exhibit, which has a row per unit of chance."""

    rows: str
    by: tuple[str, ...]
    """The columns that both exhibits share; a subset `all` that the other does not have is all its rows."""
    means: Mapping[str, Values]
    """For each column that is a mean: the values that it is the mean of."""
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


@dataclass(frozen=True)
class Entry:
    """What an exhibit needs besides its SQL."""

    intervals: Intervals | None = None
    wide: Wide | None = None
    drawing: Drawing | None = None
    digits: Mapping[str, int] = field(default_factory=dict)
    """Digits behind the point by column; three where nothing is said."""
    also: tuple[tuple[str, Callable[[pd.DataFrame], list[Table]]], ...] = ()
    """Tables below, each made from the rows of another exhibit."""
    judged: str | None = None
    """The exhibit whose rows name the judges that a reader has to know of."""


def column(name: str) -> Values:
    """The values of a column."""
    return lambda rows: rows[name]


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
_VARIED = ("profile", "other_settings", "reward_model", "subset", "objective", "icl", "rewrite", "rounds")
_CONDITIONS = ("profile", "other_settings", "reward_model", "objective", "icl", "rewrite", "rounds")
_SIDES = ("run_name", "role", "against", "subset")
_WHOLE = dict.fromkeys(("win", "tie", "lose", "missing", "inconsistent"), 0)
_HUNDRED = {"sigmoid_mean_100": 2, "spread_of_sigmoid_100": 2}

CATALOGUE: Mapping[str, Entry] = {
    "table_1": Entry(
        intervals=Intervals(
            "table_1_scores",
            by=("run_name", "reward_model", "role", "subset"),
            means={"sigmoid_mean_100": sigmoid("reward"), "mean_reward": column("reward")},
        ),
        wide=Wide(("run_name", "reward_model", "role"), ("sigmoid_mean_100", "mean_reward"), "responses"),
        drawing=Points(("role",), "sigmoid_mean_100", "mean of 100 · sigmoid(reward), all responses"),
        digits=_HUNDRED,
        also=(("table_1_scores", difference_tables),),
    ),
    "table_2": Entry(
        intervals=Intervals("table_2_outcomes", by=(*_SIDES, "judge"), means=_OUTCOMES),
        drawing=Bars(("win", "tie", "lose")),
        digits=_WHOLE,
        also=(("table_2_verdicts", bias_tables),),
        judged="table_2_outcomes",
    ),
    "table_3": Entry(
        intervals=Intervals("table_3_verdicts", by=_SIDES, means=_OUTCOMES, only=("judge_kind", "person")),
        drawing=Bars(("win", "tie", "lose")),
        digits=_WHOLE,
        also=(("table_3_verdicts", agreement_tables),),
        judged="table_3_verdicts",
    ),
    "table_4": Entry(
        intervals=Intervals(
            "table_4_runs",
            by=_VARIED,
            means={
                "mean_reward": column("reward_after"),
                "mean_gain": gain("reward_after", "reward_before"),
                "sigmoid_mean_100": column("sigmoid_after_100"),
            },
            unit="run_name",
        ),
        wide=Wide(_CONDITIONS, ("sigmoid_mean_100", "mean_reward", "mean_gain"), "seeds"),
        drawing=Points(("objective", "icl", "rewrite", "rounds"), "mean_reward", "mean reward, all responses"),
        digits=_HUNDRED,
    ),
    "figure_4": Entry(drawing=Lines("last_step", "accuracy", ("objective", "icl", "rewrite", "rounds"), chance=0.5)),
    "figure_5": Entry(
        intervals=Intervals(
            "table_4_runs",
            by=_VARIED,
            means={"mean_reward": column("reward_after"), "sigmoid_mean_100": column("sigmoid_after_100")},
            unit="run_name",
        ),
        wide=Wide(_CONDITIONS, ("mean_reward", "sigmoid_mean_100"), "seeds"),
        drawing=Lines("rounds", "mean_reward", ("objective", "icl", "rewrite", "subset")),
        digits=_HUNDRED,
    ),
    "run_rewards": Entry(digits=_HUNDRED, drawing=Points(("subset", "role"), "mean_reward", "mean reward")),
    "run_agreement": Entry(drawing=Lines("last_step", "agreement", ())),
    "run_ranking_accuracy": Entry(drawing=Lines("last_step", "black_box_accuracy", ("reward_model",), chance=0.5)),
    "run_ranking_agreement": Entry(drawing=Lines("last_step", "kendall_tau", (), chance=0.0)),
    "run_losses": Entry(drawing=Lines("optimizer_step", "loss", ())),
}
