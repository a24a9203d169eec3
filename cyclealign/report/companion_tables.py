"""The tables that stand below an exhibit: differences under Table 1, the judge's leanings, agreement of annotators.

Each works on the rows of the exhibit that holds the single values, for one run or several. Paper: Tables 1, 2, 3.
"""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from cyclealign.kappa import Agreement, Ratings, agreement, majority
from cyclealign.report import formats
from cyclealign.report.system_tables import bias_table, difference_table
from cyclealign.report.tables import Table
from cyclealign.statistics import Interval


def difference_tables(scores: pd.DataFrame) -> list[Table]:
    """The trained model minus each other system, paired by prompt: one table per run and reward model."""
    return [
        _of_run(difference_table(rows, str(name)), run)
        for (run, name), rows in scores.groupby(["run_name", "reward_model"], sort=False)
        if rows["role"].nunique() > 1 and (rows["role"] == "after").any()
    ]


def bias_tables(verdicts: pd.DataFrame) -> list[Table]:
    """What judges may be swayed by: one table per run and judge."""
    return [
        _of_run(bias_table(rows, str(judge)), run)
        for (run, judge), rows in verdicts.groupby(["run_name", "judge"], sort=False)
    ]


def agreement_tables(verdicts: pd.DataFrame) -> list[Table]:
    """How far people agree with each other, and their majority with each model judge that compared the same."""
    rows = [
        (str(run), str(role), str(against), *row)
        for (run, role, against), part in verdicts.groupby(["run_name", "role", "against"], sort=False)
        for row in _agreements(part)
    ]
    columns = ("Run", "System", "Against", "Who", "Measure", "Raters", "Prompts", "Equal", "Kappa (95% interval)")
    caption = "Agreement of those who judged the same prompts; 0 is what chance brings, 1 is full agreement"
    return [Table(caption, columns, tuple(rows), text_columns=5)] if rows else []


def _agreements(verdicts: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    people, models = (verdicts[verdicts["judge_kind"] == kind] for kind in ("person", "model"))
    found = agreement(_ratings(people))
    if found is not None:
        yield "annotators", *_cells(found)
    for judge, rows in models.groupby("judge", sort=False):
        found = agreement(_beside(_ratings(people), _ratings(rows)))
        if found is not None:
            yield f"majority of annotators and {judge}", *_cells(found)


def _ratings(verdicts: pd.DataFrame) -> dict[str, dict[str, str]]:
    return {
        str(prompt): dict(zip(rows["judge"].astype(str), rows["outcome"].astype(str), strict=True))
        for prompt, rows in verdicts.groupby("prompt_id")
    }


def _beside(people: Ratings, model: Ratings) -> dict[str, dict[str, str]]:
    """What most people said of a prompt, beside what the model said; no lead is a tie."""
    return {
        prompt: {"people": majority(people[prompt].values(), "tie"), "model": verdict}
        for prompt, given in model.items()
        for verdict in given.values()
        if prompt in people
    }


def _cells(found: Agreement) -> tuple[str, ...]:
    kappa = formats.interval(Interval(found.kappa, found.low, found.high, found.items), 2)
    counts = (formats.count(found.raters), formats.count(found.items))
    return found.measure, *counts, formats.percent(found.observed), kappa


def _of_run(table: Table, run: object) -> Table:
    return replace(table, caption=f"{table.caption}, run {run}")
