"""One table or figure of the paper, or of a run, as it is shown: rows with intervals, laid out, the paper's beside.

`Exhibit.frame` is tidy, for programs: a column `x` that is a mean has `x_low` and `x_high` beside it, and where the
paper has figures, `source` tells `ours` from `paper`. `Exhibit.tables` is the same for people. Leaves out reading
rows (`storage.exhibits`) and the formats (`exhibit_formats`).
"""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml

from cyclealign.records import SUBSETS
from cyclealign.report import formats
from cyclealign.report.catalogue import CATALOGUE, Entry, Intervals, Wide
from cyclealign.report.figures import ALL, GROUND_TRUTHS
from cyclealign.report.judge_notes import judge_notes_of_runs
from cyclealign.report.tables import Table
from cyclealign.statistics import Interval, bootstrap_interval, seed_interval

LOW, HIGH = "_low", "_high"
WHERE_NOTHING_IS_SAID = 3
"""Digits behind the point."""


@dataclass(frozen=True)
class Exhibit:
    """What is shown under one name."""

    name: str
    """As its SQL file is called."""
    title: str
    frame: pd.DataFrame
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def compose(
    name: str,
    title: str,
    rows: pd.DataFrame,
    others: Mapping[str, pd.DataFrame],
    rankers: Mapping[str, str] = MappingProxyType({}),
) -> Exhibit:
    """The exhibit of these rows.

    Args:
        name: As its SQL file is called.
        title: What it shows.
        rows: Those of the SQL file.
        others: The rows of the exhibits that its catalogue entry names.
        rankers: By run, the model that ranked during its training, where `has_judges`.
    """
    entry = CATALOGUE.get(name, Entry())
    spec = entry.intervals
    ours = with_intervals(rows, others[spec.rows], spec) if spec is not None else rows
    ours = _on_their_own_scale(ours)
    frame = _beside_the_paper(name, ours)
    tables = _tables(title, frame, entry) if len(frame) else []
    below = [table for other, make in entry.also for table in make(others[other])]
    notes = [*_notes(name, ours, spec), *_judge_notes(entry, others, rankers)]
    return Exhibit(name, title, frame, (*tables, *below), tuple(notes))


def _on_their_own_scale(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without sigmoids of the world's known truths, which are no rewards but lie between 0 and 1."""
    sigmoids = [name for name in rows.columns if "sigmoid" in name]
    if not sigmoids or "reward_model" not in rows:
        return rows
    found = rows.copy()
    found.loc[found["reward_model"].isin(GROUND_TRUTHS), sigmoids] = float("nan")
    return found


def wanted(name: str) -> set[str]:
    """The exhibits whose rows `compose` needs beside the exhibit's own."""
    entry = CATALOGUE.get(name, Entry())
    named = (entry.intervals.rows if entry.intervals else None, entry.judged, *(other for other, _ in entry.also))
    return {other for other in named if other is not None}


def has_judges(name: str) -> bool:
    """Whether a reader has to know which models ranked in the training of the runs that are shown."""
    return CATALOGUE.get(name, Entry()).judged is not None


def with_intervals(rows: pd.DataFrame, singles: pd.DataFrame, spec: Intervals) -> pd.DataFrame:
    """The rows with a low and a high beside each mean, from the single values behind it.

    Several values of one unit of chance (the annotators of a prompt) are averaged first.
    """
    if spec.only is not None:
        singles = singles[singles[spec.only[0]] == spec.only[1]]
    groups = _groups(singles, spec)
    found = rows.copy()
    for name, values in spec.means.items():
        reaches = [_interval(groups.get(_key(row, spec.by)), values, spec.unit) for row in _records(rows)]
        place = list(found.columns).index(name) + 1
        found.insert(place, name + LOW, [reach.low for reach in reaches])
        found.insert(place + 1, name + HIGH, [reach.high for reach in reaches])
    return found


def _groups(singles: pd.DataFrame, spec: Intervals) -> dict[tuple[Any, ...], pd.DataFrame]:
    by = list(spec.by)
    groups = {_key(part.iloc[0], spec.by): part for _, part in singles.groupby(by, dropna=False)}
    if len(singles) and not (singles["subset"] == ALL).any():
        rest = [name for name in by if name != "subset"]
        for _, part in singles.groupby(rest, dropna=False):
            groups[_key({**part.iloc[0].to_dict(), "subset": ALL}, spec.by)] = part
    return groups


def _key(row: Any, by: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in by)


def _interval(part: pd.DataFrame | None, values: Any, unit: str) -> Interval:
    if part is None:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    by_unit = values(part).astype(float).groupby(part[unit]).mean().dropna()
    if by_unit.empty:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return (bootstrap_interval if unit == "prompt_id" else seed_interval)(list(by_unit))


@cache
def _of_the_paper() -> dict[str, Any]:
    text = files("cyclealign.report").joinpath("paper_figures.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def paper_rows(name: str) -> pd.DataFrame | None:
    """The paper's own figures, with the columns of the exhibit that they stand beside; None where it has none."""
    known = _of_the_paper().get(name)
    if known is None:
        return None
    frame = pd.DataFrame(known["rows"], columns=known["columns"])
    if "value" in known:
        frame = frame.melt(known["columns"][0], var_name="subset", value_name=known["value"])
    return frame.dropna().reset_index(drop=True).assign(**known.get("always", {}))


def _beside_the_paper(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    theirs = paper_rows(name)
    if theirs is None:
        return ours
    marked = [frame.assign(source=source) for source, frame in (("ours", ours), ("paper", theirs)) if len(frame)]
    columns = ["source", *ours.columns]
    return pd.concat([frame.astype(object) for frame in marked], ignore_index=True).reindex(columns=columns)


def _notes(name: str, ours: pd.DataFrame, spec: Intervals | None) -> list[str]:
    notes = [] if len(ours) else ["The ledger has no rows for this yet."]
    if spec is not None and len(ours):
        unit = "prompts (bootstrap)" if spec.unit == "prompt_id" else "seeds (Student's t)"
        notes.append(f"In parentheses: 95% intervals over {unit}.")
    if name in _of_the_paper():
        note = _of_the_paper()[name]["note"]
        notes.append(f"Rows of the source paper are the paper's own figures ({note}); they were not measured here.")
    return notes


def _judge_notes(entry: Entry, others: Mapping[str, pd.DataFrame], rankers: Mapping[str, str]) -> list[str]:
    if entry.judged is None:
        return []
    rows = others[entry.judged]
    models = rows[rows["judge_kind"] == "model"] if "judge_kind" in rows else rows
    return judge_notes_of_runs(models, rankers)


def _tables(title: str, frame: pd.DataFrame, entry: Entry) -> list[Table]:
    if entry.wide is None:
        return [_table(title, _cells(frame, entry.digits))]
    return [_wide_table(title, frame, entry.wide, value, entry.digits) for value in entry.wide.values]


def _wide_table(title: str, frame: pd.DataFrame, wide: Wide, value: str, digits: Mapping[str, int]) -> Table:
    """A row per system, a column per subset, the total last; what all of them share stands in the caption."""
    shown = frame[frame[value].notna()]
    index, shared = _index(shown, wide)
    subsets = _subsets(set(shown["subset"]))
    rows = []
    for _, part in shown.groupby(index, sort=False, dropna=False):
        cells = {row["subset"]: _cell(row, value, digits) for row in _records(part)}
        named = [_plain(part.iloc[0][name], WHERE_NOTHING_IS_SAID) for name in index]
        count = _plain(part[wide.count].max(), 0)
        rows.append((*named, count, *(cells.get(subset, formats.MISSING) for subset in subsets)))
    columns = (*index, wide.count, *("Total" if subset == ALL else subset for subset in subsets))
    caption = "; ".join([f"{title}: {value}", *(f"{name} {_plain(one, 0)}" for name, one in shared.items())])
    return Table(caption, columns, tuple(rows), text_columns=len(index))


def _index(shown: pd.DataFrame, wide: Wide) -> tuple[list[str], dict[str, Any]]:
    """The columns that tell rows apart, and those that are the same in all rows that have them."""
    known = {name: shown[name].dropna().unique() for name in wide.rows[:-1]}
    shared = {name: values[0] for name, values in known.items() if len(values) == 1}
    names = [name for name in wide.rows if name not in shared]
    return [*(["source"] if "source" in shown else []), *names], shared


def _subsets(there: set[str]) -> list[str]:
    return [*(one for one in SUBSETS if one in there), *sorted(there - {*SUBSETS, ALL}), ALL]


def _cells(frame: pd.DataFrame, digits: Mapping[str, int]) -> pd.DataFrame:
    """Every column as text; bounds stand in the cell of their mean."""
    bounds = {name + end for name in frame.columns for end in (LOW, HIGH) if name + LOW in frame}
    names = [name for name in frame.columns if name not in bounds]
    records = _records(frame)  # once for all columns: this is what takes time where there are many rows
    return pd.DataFrame({name: [_cell(row, name, digits) for row in records] for name in names}, dtype=object)


def _table(title: str, cells: pd.DataFrame) -> Table:
    words = 0
    for name in cells.columns:  # leading columns that hold words are set to the left
        if all(any(letter.isalpha() for letter in cell) or cell == formats.MISSING for cell in cells[name]):
            words += 1
        else:
            break
    rows = tuple(tuple(row) for row in cells.itertuples(index=False))
    return Table(title, tuple(str(name) for name in cells.columns), rows, text_columns=max(words, 1))


def _cell(row: Mapping[str, Any], name: str, digits: Mapping[str, int]) -> str:
    places = digits.get(name, WHERE_NOTHING_IS_SAID)
    shown = _plain(row[name], places)
    low, high = row.get(name + LOW), row.get(name + HIGH)
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return shown
    return f"{shown} ({formats.number(float(low), places)}, {formats.number(float(high), places)})"


def _plain(value: Any, digits: int) -> str:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return formats.MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Real):
        whole = digits == WHERE_NOTHING_IS_SAID and float(value).is_integer()  # counts, also beside missing ones
        return formats.number(float(value), 0 if whole else digits)
    return str(value.tolist() if hasattr(value, "tolist") else value)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict(orient="records")]
