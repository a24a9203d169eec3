"""The tables of what came out, as rows of short strings: the same for HTML, Markdown and the terminal.

Cells are plain text that each renderer makes safe for its own place; nothing here knows where it will be
shown.
"""

from dataclasses import dataclass

import pandas as pd

from cyclealign.report import formats
from cyclealign.report.figures import RewardTable, RunFigures, TextRow


@dataclass(frozen=True)
class Table:
    """A caption, column names and rows; the first `text_columns` columns are words, the others figures."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    total: bool = False
    """The last row sums up the others."""


def reward_table(table: RewardTable) -> Table:
    """One reward model, subset by subset, with 95% intervals."""
    rows = [
        (
            row.subset,
            formats.count(row.n),
            formats.signed_interval(row.difference),
            formats.interval(row.before),
            formats.interval(row.after),
            formats.shares(row.win, row.tie, row.lose),
        )
        for row in table.rows
    ]
    columns = ("Subset", "n", "Difference", "Before", "After", "Win / tie / lose")
    return Table(f"Reward by {table.reward_model}", columns, tuple(rows), total=True)


def scale_table(table: RewardTable) -> Table:
    """The same responses on the scale of the paper's Table 1."""
    rows = [
        (
            row.subset,
            formats.count(row.n),
            formats.signed(row.sigmoid_after - row.sigmoid_before, 2),
            formats.number(row.sigmoid_before, 2),
            formats.number(row.sigmoid_after, 2),
        )
        for row in table.rows
    ]
    caption = f"On the paper's scale, mean of 100 · sigmoid(reward), by {table.reward_model}"
    return Table(caption, ("Subset", "n", "Difference", "Before", "After"), tuple(rows), total=True)


def compact_table(table: RewardTable) -> Table:
    """What fits a terminal of 80 columns: intervals for the differences alone, wins left to the report."""
    rows = [
        (
            row.subset,
            formats.count(row.n),
            formats.number(row.before.mean),
            formats.number(row.after.mean),
            formats.signed_interval(row.difference),
        )
        for row in table.rows
    ]
    columns = ("Subset", "n", "Before", "After", "Difference (95% interval)")
    return Table(f"Reward by {table.reward_model}", columns, tuple(rows), total=True)


def text_table(figures: RunFigures) -> Table:
    """What the responses look like before and after, whatever their reward."""
    rows = [
        (
            row.subset,
            formats.count(row.after.n),
            _change(row.before.mean_tokens, row.after.mean_tokens, 1),
            _change(row.before.distinct_2, row.after.distinct_2, 3),
            _change(row.before.repeated_4grams, row.after.repeated_4grams, 3),
            _change(100 * row.before.ended_share, 100 * row.after.ended_share, 0, " %"),
        )
        for row in figures.texts
    ]
    columns = ("Subset", "n", "Mean length, tokens", "Distinct-2", "Repeated 4-grams", "Ends by itself")
    return Table("The responses as text, before → after", columns, tuple(rows), total=True)


def compact_text_table(row: TextRow) -> Table:
    """The same for one subset, in the width of a terminal."""
    before, after = row.before, row.after
    rows = [
        ("Mean length, tokens", *(formats.number(side.mean_tokens, 1) for side in (before, after))),
        ("Distinct-2", *(formats.number(side.distinct_2) for side in (before, after))),
        ("Repeated 4-grams", *(formats.number(side.repeated_4grams) for side in (before, after))),
        ("Ends by itself", *(formats.percent(side.ended_share) for side in (before, after))),
    ]
    caption = f"The responses as text, {row.subset}, n = {formats.count(after.n)}"
    return Table(caption, ("", "Before", "After"), tuple(rows))


def course_table(figures: RunFigures) -> Table:
    """How the rankings agree with each other, and with a reward model where known, early and late."""
    agreement, order = figures.agreement, figures.ranking_agreement
    accuracy = figures.ranking_accuracy
    rows = [
        ("Length of the agreement / candidates", *_ends(agreement, "agreement", 2)),
        ("— of first rounds only", *_ends(agreement, "first_round_agreement", 2)),
        ("Identical rankings", *_ends(agreement, "identical_share", 2)),
        ("Kendall's tau", *_ends(order, "kendall_tau", 2)),
        ("— of first rounds only", *_ends(order, "first_round_kendall_tau", 2)),
        ("Pairs ordered alike", *_ends(order, "pairwise_agreement", 2)),
        ("Rounds per step", *_ends(agreement, "rounds_per_step", 2)),
    ]
    if len(accuracy):
        name = accuracy["reward_model"].iloc[0]
        rows.append((f"Black box right, by {name}", *_ends(accuracy, "black_box_accuracy", 2)))
        rows.append((f"White box right, by {name}", *_ends(accuracy, "white_box_accuracy", 2)))
    columns = ("Black box and white box", "First quarter", "Last quarter")
    return Table("Agreement of the two rankings", columns, tuple(rows))


def _change(before: float, after: float, digits: int, unit: str = "") -> str:
    return f"{formats.number(before, digits)} → {formats.number(after, digits)}{unit}"


def _ends(frame: pd.DataFrame, column: str, digits: int) -> tuple[str, str]:
    """Means over the bins of the first and of the last quarter; bins hold equally many steps."""
    quarter = max(1, len(frame) // 4)
    first, last = frame[column].head(quarter).mean(), frame[column].tail(quarter).mean()
    return formats.number(float(first), digits), formats.number(float(last), digits)
