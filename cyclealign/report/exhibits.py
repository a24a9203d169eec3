"""One table or figure of the paper, or of a run, as it is shown: rows with intervals, laid out, the paper's beside.

`Exhibit.frame` is tidy, for programs: a column `x` that is a mean has `x_low` and `x_high` beside it, and where the
paper has figures, `source` tells `ours` from `paper`. `Exhibit.tables` is the same for people. Leaves out reading
rows (`storage.exhibits`) and the formats (`render`).
"""

import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml

from cyclealign.report.blocks import (
    DIGITS,
    MISSING,
    Row,
    Table,
    duration,
    interval,
    moment,
    number,
    percent,
    signed,
    usd,
    words,
)
from cyclealign.report.catalogue import Values, Wide, entry_of
from cyclealign.report.companions import ALL, GROUND_TRUTHS, judge_notes, records, subsets_of
from cyclealign.statistics import Interval, bootstrap_interval, seed_interval

LOW, HIGH = "_low", "_high"
DIGITS_OF = {
    **dict.fromkeys(("win", "tie", "lose", "missing", "inconsistent"), 0),
    **dict.fromkeys(("sigmoid_mean_100", "spread_of_sigmoid_100"), 2),
}
"""Behind the point, by column."""


@dataclass(frozen=True)
class Exhibit:
    """What is shown under one name."""

    name: str
    """As its SQL file is called, or the catalogue's entry."""
    title: str
    frame: pd.DataFrame
    tables: tuple[Table, ...]
    below: tuple[Table, ...]
    """What is made of the single values behind it."""
    notes: tuple[str, ...]

    @property
    def everything(self) -> tuple[Table, ...]:
        """All tables in their order."""
        return *self.tables, *self.below


def wanted(name: str) -> set[str]:
    """The exhibits whose rows `compose` needs, its own among them."""
    entry = entry_of(name)
    others = (entry.intervals and entry.intervals.rows, entry.below and entry.below[0])
    return {name, *(other for other in others if other)}


def compose(
    name: str, title: str, rows: Mapping[str, pd.DataFrame], rankers: Mapping[str, str] = MappingProxyType({})
) -> Exhibit:
    """The exhibit of these rows.

    Args:
        name: As in the exhibit.
        title: What it shows.
        rows: Those of every exhibit that is `wanted`.
        rankers: By run, the model that ranked during its training, where judges have compared.
    """
    entry, ours = entry_of(name), _on_their_own_scale(with_intervals(name, rows))
    frame, wide = _beside_the_paper(name, ours), entry.wide
    tables: list[Table] = []
    if wide is not None and len(frame):
        tables = [_wide_table(title, frame, wide, value) for value in wide.values]
    elif len(frame):
        tables = [_table(title, frame, cell)]
    below = entry.below[1](rows[entry.below[0]]) if entry.below else []
    return Exhibit(name, title, frame, tuple(tables), tuple(below), tuple(_notes(name, ours, rows, rankers)))


def _on_their_own_scale(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without sigmoids of the world's known truths, which are no rewards but lie between 0 and 1."""
    sigmoids = [name for name in rows.columns if "sigmoid" in name]
    if not sigmoids or "reward_model" not in rows:
        return rows
    found = rows.copy()
    found.loc[found["reward_model"].isin(GROUND_TRUTHS), sigmoids] = float("nan")
    return found


def with_intervals(name: str, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """An exhibit's rows with a low and a high beside each mean, from the single values behind it.

    Several values of one unit of chance (the annotators of a prompt) are averaged first.
    """
    spec, found = entry_of(name).intervals, rows[name].copy()
    if spec is None:
        return found
    singles = rows[spec.rows]
    if spec.only is not None:
        singles = singles[singles[spec.only[0]] == spec.only[1]]
    by = (*spec.by, *({"run_name"} & set(found) & set(singles) - set(spec.by)))
    groups, keys = _groups(singles, by), [_key(row, by) for row in records(found)]
    for mean, values in spec.means.items():
        if mean in found:
            reaches = [_interval(groups.get(key), values, spec.unit) for key in keys]
            place = list(found.columns).index(mean) + 1
            found.insert(place, mean + LOW, [reach.low for reach in reaches])
            found.insert(place + 1, mean + HIGH, [reach.high for reach in reaches])
    return found


def _groups(singles: pd.DataFrame, by: tuple[str, ...]) -> dict[tuple[Any, ...], pd.DataFrame]:
    groups = {_key(part.iloc[0], by): part for _, part in singles.groupby(list(by), dropna=False)}
    if len(singles) and not (singles["subset"] == ALL).any():
        for _, part in singles.groupby([name for name in by if name != "subset"], dropna=False):
            groups[_key({**part.iloc[0].to_dict(), "subset": ALL}, by)] = part
    return groups


def _key(row: Any, by: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in by)


def _interval(part: pd.DataFrame | None, values: str | Values, unit: str) -> Interval:
    by_unit: list[float] = []
    if part is not None:
        singles = part[values] if isinstance(values, str) else values(part)
        by_unit = list(singles.astype(float).groupby(part[unit]).mean().dropna())
    if not by_unit:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return (bootstrap_interval if unit == "prompt_id" else seed_interval)(by_unit)


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


def _notes(
    name: str, ours: pd.DataFrame, rows: Mapping[str, pd.DataFrame], rankers: Mapping[str, str]
) -> Iterator[str]:
    entry, paper = entry_of(name), _of_the_paper().get(name)
    if ours.empty:
        yield "The ledger has no rows for this yet."
    elif entry.intervals is not None:
        unit = "prompts (bootstrap)" if entry.intervals.unit == "prompt_id" else "seeds (Student's t)"
        yield f"In parentheses: 95% intervals over {unit}."
    if paper is not None:
        note = paper["note"]
        yield f"Rows of the source paper are the paper's own figures ({note}); they were not measured here."
    if entry.judged and entry.intervals is not None:
        judged = rows[entry.intervals.rows]
        models = judged[judged["judge_kind"] == "model"] if "judge_kind" in judged else judged
        yield from judge_notes(models, rankers)


def _wide_table(title: str, frame: pd.DataFrame, wide: Wide, value: str) -> Table:
    """A row per system, a column per subset, the total last; what all of them share stands in the caption."""
    shown = frame[frame[value].notna()]
    known = {name: shown[name].dropna().unique() for name in wide.rows[:-1]}
    shared = {name: values[0] for name, values in known.items() if len(values) == 1}
    index = [*(["source"] if "source" in shown else []), *(name for name in wide.rows if name not in shared)]
    subsets, rows = subsets_of(shown), []
    for _, part in shown.groupby(index, sort=False, dropna=False):
        cells = {row["subset"]: cell(row, value) for row in records(part)}
        named = [cell(dict(part.iloc[0]), name) for name in index]
        size = cell({wide.count: part[wide.count].max()}, wide.count)
        rows.append((*named, size, *(cells.get(subset, MISSING) for subset in subsets)))
    columns = (*index, wide.count, *("Total" if subset == ALL else subset for subset in subsets))
    caption = "; ".join([f"{title}: {value}", *(f"{name} {cell(shared, name)}" for name in shared)])
    return Table(caption, columns, tuple(rows), text_columns=len(index))


def people_table(caption: str, frame: pd.DataFrame) -> Table:
    """The rows for a report: names and units as people write them."""
    found = _table(caption, frame, written)
    return replace(found, columns=tuple(map(words, found.columns)))


def _table(caption: str, frame: pd.DataFrame, write: Callable[[Row, str], str]) -> Table:
    """The rows as they are. Bounds stand in the cell of their mean; leading columns of words are set to the left."""
    bounds = {name + end for name in frame.columns for end in (LOW, HIGH) if name + LOW in frame}
    names = [str(name) for name in frame.columns if name not in bounds]
    rows = tuple(tuple(write(row, name) for name in names) for row in records(frame))
    left = 0
    while left < len(names) and all(row[left] == MISSING or any(map(str.isalpha, row[left])) for row in rows):
        left += 1
    return Table(caption, tuple(names), rows, text_columns=max(left, 1))


def cell(row: Row, name: str, write: Callable[[float, int], str] = number) -> str:
    """A value, with its bounds where the row has them."""
    value, digits = row[name], DIGITS_OF.get(name, DIGITS)
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, numbers.Real):
        return str(value.tolist() if hasattr(value, "tolist") else value)
    low, high = (float("nan") if row.get(name + end) is None else float(row[name + end]) for end in (LOW, HIGH))
    whole = digits == DIGITS and float(value).is_integer()  # counts, also beside missing ones
    return interval(Interval(float(value), low, high, 0), 0 if whole else digits, write)


def written(row: Row, name: str) -> str:
    """A value as people write it, by what its column is called."""
    value = row[name]
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(value, key)}" for key in value) or MISSING
    if name.endswith("_at"):
        return moment(value)
    if name.endswith(("_usd", "seconds")):
        return (usd if name.endswith("_usd") else duration)(value)
    if "share" in name or name in ("won", "tied", "lost", "accuracy"):
        return cell(row, name, lambda share, _: percent(share, 1))
    return cell(row, name, signed if "difference" in name else number)
