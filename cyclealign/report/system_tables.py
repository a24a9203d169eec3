"""Tables 1 and 2 of an evaluation: systems under a reward model, and two systems before a judge, with intervals.

Works on the rows of `sql/exhibits/table_1_scores.sql`, `table_2_outcomes.sql` and `table_2_verdicts.sql` of one
run. Intervals are 95% bootstrap intervals over prompts; differences are paired by prompt. Leaves out what a run's
own report shows of before and after (`tables`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cyclealign.pairwise import DecidedPrompt, JudgeBias, ShownVerdict, judge_bias, pairwise_figures
from cyclealign.records import SUBSETS
from cyclealign.report import formats
from cyclealign.report.figures import ALL, GROUND_TRUTHS
from cyclealign.report.tables import Table
from cyclealign.statistics import Interval, bootstrap_interval, paired_difference, sigmoid_100

OURS = "after"
TOTAL = "Total"


def reward_table(scores: pd.DataFrame, reward_model: str) -> Table:
    """One reward model's Table 1: a row per system, mean of sigmoid·100 per subset and over all responses.

    A known truth, which is no reward but lies between 0 and 1, stays on its own scale.
    """
    rows, scale = scores[scores["reward_model"] == reward_model], scale_of(reward_model)
    subsets = _subsets(rows)
    body = [_reward_row(role, rows[rows["role"] == role], subsets, scale) for role in ordered_roles(rows["role"])]
    columns = ("System", "n", *_titles(subsets), *(("Raw mean",) if scale.of_rewards else ()))
    return Table(f"Mean of {scale.name}, by {reward_model}", columns, tuple(body))


def _reward_row(role: str, rows: pd.DataFrame, subsets: list[str], scale: "Scale") -> tuple[str, ...]:
    cells = [_mean_cell(scale.of(_part(rows, subset)["reward"]), scale.digits) for subset in subsets]
    raw = (_mean_cell(rows["reward"], 3),) if scale.of_rewards else ()
    return role, formats.count(len(rows)), *cells, *raw


def difference_table(scores: pd.DataFrame, reward_model: str) -> Table:
    """The trained model minus each other system, in the unit of Table 1, over the prompts that both have."""
    rows, scale = scores[scores["reward_model"] == reward_model], scale_of(reward_model)
    subsets, ours = _subsets(rows), rows[rows["role"] == OURS]
    others = [role for role in ordered_roles(rows["role"]) if role != OURS]
    body = [_difference_row(role, ours, rows[rows["role"] == role], subsets, scale) for role in others]
    caption = f"Difference in {scale.name}, {OURS} minus the other, by {reward_model}"
    return Table(caption, ("Against", "n", *_titles(subsets)), tuple(body))


def _difference_row(
    role: str, ours: pd.DataFrame, theirs: pd.DataFrame, subsets: list[str], scale: "Scale"
) -> tuple[str, ...]:
    both = ours.merge(theirs, on=["subset", "prompt_id"], suffixes=("", "_other"))
    cells = [_difference_cell(_part(both, subset), scale) for subset in subsets]
    return role, formats.count(len(both)), *cells


def _difference_cell(both: pd.DataFrame, scale: "Scale") -> str:
    if both.empty:
        return formats.MISSING
    before = dict(zip(both["prompt_id"], scale.of(both["reward_other"]), strict=True))
    after = dict(zip(both["prompt_id"], scale.of(both["reward"]), strict=True))
    return formats.signed_interval(paired_difference(before, after), scale.digits)


def pairwise_table(outcomes: pd.DataFrame, judge: str) -> Table:
    """One judge's Table 2: a row per pair of systems and subset, percent of all prompts."""
    rows = outcomes[outcomes["judge"] == judge]
    body = [
        _pairwise_row(str(role), str(against), subset, _part(pair, subset))
        for (role, against), pair in rows.groupby(["role", "against"], sort=False)
        for subset in _subsets(pair)
    ]
    columns = ("System", "Against", "Subset", "n", "% win", "% tie", "% lose", "% inconsistent", "% missing")
    return Table(f"Compared by {judge}", columns, tuple(body), text_columns=3)


def _pairwise_row(role: str, against: str, subset: str, rows: pd.DataFrame) -> tuple[str, ...]:
    decided = [DecidedPrompt(row["outcome"], bool(row["inconsistent"])) for row in _records(rows)]
    found = pairwise_figures(decided)
    shares = [formats.interval(_percent(one), 0) for one in (found.win, found.tie, found.lose)]
    rest = [formats.number(100 * one, 0) for one in (found.inconsistent, found.missing)]
    return role, against, subset, formats.count(found.n), *shares, *rest


def bias_table(verdicts: pd.DataFrame, judge: str) -> Table:
    """What one judge may be swayed by: how often the response shown first wins, and the longer one."""
    rows = verdicts[verdicts["judge"] == judge]
    body = [
        (str(role), str(against), *_bias_cells(judge_bias(_shown(pair))))
        for (role, against), pair in rows.groupby(["role", "against"], sort=False)
    ]
    columns = ("System", "Against", "Decided", "% to the first shown", "% to the longer")
    return Table(f"Order and length in the verdicts of {judge}", columns, tuple(body), text_columns=2)


def _bias_cells(bias: JudgeBias) -> tuple[str, ...]:
    shares = [
        formats.MISSING if one is None else formats.interval(_percent(one), 0) for one in (bias.first, bias.longer)
    ]
    return formats.count(bias.decided), *shares


def ordered_roles(roles: Iterable[str]) -> list[str]:
    """The run's own model first, before and after, then the others by label."""
    return sorted(set(roles), key=lambda role: (role not in ("before", OURS), role != "before", role))


def _subsets(rows: pd.DataFrame) -> list[str]:
    """The subsets that occur, in the order of the paper's tables, others after them, all of them last."""
    there = set(rows["subset"])
    return [*(one for one in SUBSETS if one in there), *sorted(there - set(SUBSETS)), ALL]


def _titles(subsets: list[str]) -> list[str]:
    return [TOTAL if subset == ALL else subset for subset in subsets]


def _part(rows: pd.DataFrame, subset: str) -> pd.DataFrame:
    return rows if subset == ALL else rows[rows["subset"] == subset]


@dataclass(frozen=True)
class Scale:
    """How the scores of a reward model are shown."""

    name: str
    digits: int
    of: Callable[[pd.Series], Any]
    of_rewards: bool
    """Whether the scores are rewards, which have no bounds."""


def scale_of(reward_model: str) -> Scale:
    """The paper's scale for rewards, and their own for the world's known truths."""
    if reward_model in GROUND_TRUTHS:
        return Scale("the score", 3, np.asarray, of_rewards=False)
    return Scale("100 · sigmoid(reward)", 2, sigmoid_100, of_rewards=True)


def _mean_cell(values: Any, digits: int = 2) -> str:
    listed = [float(value) for value in values]
    return formats.interval(bootstrap_interval(listed), digits) if listed else formats.MISSING


def _percent(share: Interval) -> Interval:
    return Interval(100 * share.mean, 100 * share.low, 100 * share.high, share.n)


def _shown(rows: pd.DataFrame) -> list[ShownVerdict]:
    names = ("prompt_id", "verdict", "first_length", "second_length")
    return [ShownVerdict(*(row[name] for name in names)) for row in _records(rows)]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict(orient="records")]
