"""The table of a judge audit, from the rows of `sql/exhibits/run_audit.sql`.

Answers of different served models are told apart, by name and, where the provider gives one, by fingerprint: the
model behind an endpoint may have changed in between. Where it did so without a trace, the dates of the answers remain.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from cyclealign.judge_audit import AuditFigures, RepeatedRanking, audit_figures
from cyclealign.records import SUBSETS
from cyclealign.report import formats
from cyclealign.report.figures import ALL
from cyclealign.report.tables import Table
from cyclealign.statistics import Interval

UNKNOWN_MODEL = "not named"


def audit_table(rows: pd.DataFrame, candidates: int) -> Table:
    """Consistency, position bias and length effect per subset; `all` is the last row.

    Of the `n` answers that could be read, the comparable ones rank at least two different texts: they alone say
    something about order. Dates are in UTC.
    """
    body = [
        (served, _dates(part["recorded_at"]), _dates(part["repeated_at"]), subset, *_cells(part))
        for served, answers in _by_model(rows)
        for subset, part in _by_subset(answers)
    ]
    columns = (
        "Served by",
        "Recorded",
        "Repeated",
        "Subset",
        "n",
        "Comparable",
        "Unread",
        "Kendall's tau",
        "Another best",
        f"First shown best (chance {1 / candidates:.2f})",
        "Longer above shorter",
    )
    return Table("The same rankings in another order", columns, tuple(body), text_columns=4)


def served_models(rows: pd.DataFrame) -> list[str]:
    """The pairs of models that served the recorded and the repeated answers."""
    return [served for served, _ in _by_model(rows)]


def _by_model(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    recorded, repeated = _served(rows, "recorded"), _served(rows, "repeated")
    served = recorded.where(recorded == repeated, recorded + " → " + repeated)
    for name in sorted(set(served)):
        yield name, rows[served == name]


def _served(rows: pd.DataFrame, when: str) -> pd.Series:
    """The model that answered, as far as the answers tell."""
    fingerprints = (" " + rows[f"{when}_fingerprint"].astype("string")).fillna("")
    return rows[f"{when}_model"].astype("string").fillna(UNKNOWN_MODEL) + fingerprints


def _dates(moments: pd.Series) -> str:
    days = pd.to_datetime(moments.dropna(), utc=True).dt.strftime("%Y-%m-%d")
    if days.empty:
        return formats.MISSING
    first, last = days.min(), days.max()
    return first if first == last else f"{first} to {last}"


def _by_subset(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for subset in (one for one in SUBSETS if one in set(rows["subset"])):
        yield subset, rows[rows["subset"] == subset]
    yield ALL, rows


def _cells(rows: pd.DataFrame) -> tuple[str, ...]:
    read = rows[rows["repeated_ranking"].notna()]
    figures: AuditFigures = audit_figures([_ranking(row) for row in read.to_dict(orient="records")])
    measures = (figures.tau, figures.flips, figures.first, figures.longer)
    counts = (figures.n, figures.comparable, len(rows) - len(read))
    return *map(formats.count, counts), *map(_cell, measures)


def _cell(value: Interval | None) -> str:
    return formats.MISSING if value is None else formats.interval(value, 2)


def _ranking(row: Any) -> RepeatedRanking:
    def ids(name: str) -> tuple[int, ...]:
        return tuple(int(value) for value in row[name])

    return RepeatedRanking(
        prompt_id=row["prompt_id"],
        recorded=ids("recorded_ranking"),
        repeated=ids("repeated_ranking"),
        recorded_order=ids("recorded_permutation"),
        repeated_order=ids("repeated_permutation"),
        lengths=ids("lengths"),
        same_as=ids("same_as"),
    )
