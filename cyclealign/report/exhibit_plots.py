"""An exhibit as a plot: curves over steps or rounds, means with their intervals, or win, tie and lose as bars.

What is drawn from which column stands in the catalogue. Leaves out the plots of a run's report (`plots`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cyclealign.report.canvas import AFTER, BEFORE, FAINT, GRID, INK, Plot, render
from cyclealign.report.untrusted import clip, for_terminal

COLOURS = (BEFORE, AFTER, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
"""Okabe and Ito's; `STYLES` and `MARKS` tell curves apart without them."""
STYLES, MARKS = ("-", "--", "-.", ":"), ("o", "s", "D", "^", "v", "P", "X")
LONGEST_LABEL, LONGEST_SERIES = 64, 60
MOST_PLACES = 40
"""Rows of a plot of means or bars; more would not be read."""


@dataclass(frozen=True)
class Lines:
    """A curve per series, with its interval or its spread over seeds where the rows have one; panels by reward model.

    Args:
        x: The column to the right.
        y: The column upwards.
        series: The columns that tell curves apart.
        chance: Where guessing would be.
    """

    x: str
    y: str
    series: tuple[str, ...]
    chance: float | None = None


@dataclass(frozen=True)
class Points:
    """A mean per row of the subset `all` (or per row), with its interval."""

    labels: tuple[str, ...]
    value: str
    title: str


@dataclass(frozen=True)
class Bars:
    """Shares in percent that add up to a whole, one bar per row."""

    shares: tuple[str, ...]


Drawing = Lines | Points | Bars


def draw(name: str, title: str, frame: pd.DataFrame, drawing: Drawing) -> Plot:
    """The plot of an exhibit's rows.

    Raises:
        ValueError: there are no rows to draw.
    """
    if frame.empty:
        raise ValueError(f"Found no rows of {name}, expected at least one to draw.")
    if isinstance(drawing, Lines):
        return _lines(name, title, frame, drawing)
    rows = frame.head(MOST_PLACES)
    if isinstance(drawing, Bars):
        return _bars(name, title, rows, drawing)
    return _points(name, title, rows if "subset" in drawing.labels else _totals(frame).head(MOST_PLACES), drawing)


def _lines(name: str, title: str, frame: pd.DataFrame, drawing: Lines) -> Plot:
    panels = list(_panels(frame, drawing))

    def draw_panels(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (heading, part) in zip(grid, panels, strict=True):
            _curves(axes, part, drawing)
            axes.set(title=heading, ylabel=_words(drawing.y))
        grid[-1].set_xlabel(_words(drawing.x))

    return render(name, title, 0.4 + 2.4 * len(panels), draw_panels)


def _panels(frame: pd.DataFrame, drawing: Lines) -> Iterator[tuple[str, pd.DataFrame]]:
    """A panel per combination of the columns that say under which conditions a curve was measured."""
    apart = [name for name in ("profile", "other_settings", "reward_model") if name in frame]
    apart = [name for name in apart if name not in drawing.series]
    if not apart:
        yield "", frame
        return
    for key, part in frame.groupby(apart, sort=False, dropna=False):
        yield _label(key, LONGEST_SERIES), part


def _curves(axes: Axes, frame: pd.DataFrame, drawing: Lines) -> None:
    series = [name for name in (*drawing.series, "run_name") if name in frame and frame[name].nunique() > 1]
    groups = list(frame.groupby(series, sort=False, dropna=False)) if series else [("", frame)]
    looks = zip(cycle(COLOURS), cycle(STYLES), cycle(MARKS), groups)
    for colour, style, mark, (key, part) in looks:
        ordered = part.sort_values(drawing.x)
        x, y = ordered[drawing.x].astype(float), ordered[drawing.y].astype(float)
        low, high = _band(ordered, drawing.y)
        axes.plot(x, y, style, color=colour, marker=mark if len(x) <= 12 else "", markersize=3, label=_label(key, 60))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if drawing.chance is not None:
        axes.axhline(drawing.chance, color=FAINT, linewidth=1)
    if len(groups) > 1:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _band(rows: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """The interval of a column, else its spread to both sides, else nothing."""
    middle = rows[name].astype(float)
    if f"{name}_low" in rows:
        return rows[f"{name}_low"].astype(float), rows[f"{name}_high"].astype(float)
    spread = rows.get(f"spread_of_{name}")
    reach = pd.Series(np.nan, index=rows.index) if spread is None else spread.astype(float)
    return middle - reach, middle + reach


def _totals(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["subset"] == "all"] if "subset" in frame else frame


def _points(name: str, title: str, rows: pd.DataFrame, drawing: Points) -> Plot:
    rows = rows[rows[drawing.value].notna()]
    values = rows[drawing.value].astype(float)
    low, high = _band(rows, drawing.value)

    def draw_points(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1].astype(float)
        reach = np.nan_to_num(np.array([values - low, high - values]))
        axes.errorbar(values, places, xerr=reach, fmt="D", color=INK, markersize=4, capsize=2)
        axes.set_yticks(places, _row_labels(rows, drawing.labels))
        axes.set(xlabel=drawing.title, ylim=(-0.6, len(rows) - 0.4))
        axes.grid(visible=False, axis="y")

    return render(name, title, 0.9 + 0.28 * len(rows), draw_points)


def _bars(name: str, title: str, rows: pd.DataFrame, drawing: Bars) -> Plot:
    def draw_bars(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(rows))[::-1].astype(float)
        left = np.zeros(len(rows))
        for share, colour, hatch in zip(drawing.shares, (AFTER, GRID, BEFORE), ("", "", "////"), strict=True):
            width = rows[share].astype(float).to_numpy()
            axes.barh(places, width, left=left, color=colour, hatch=hatch, edgecolor="white", label=share)
            left = left + width
        axes.set_yticks(places, _row_labels(rows, ("subset", "role", "against")))
        axes.set(xlabel="% of prompts", xlim=(0, 100), ylim=(-0.6, len(rows) - 0.4))
        axes.grid(visible=False, axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)

    return render(name, title, 1.1 + 0.28 * len(rows), draw_bars)


def _row_labels(rows: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    """What tells the rows apart; where they come from and under which run and judge, where that differs."""
    differing = [name for name in ("run_name", "reward_model", "judge") if name in rows and rows[name].nunique() > 1]
    shown = [name for name in (*columns, "source", *differing) if name in rows]
    return [_label([row[name] for name in shown if pd.notna(row[name])], LONGEST_LABEL) for _, row in rows.iterrows()]


def _label(key: object, length: int) -> str:
    parts = key if isinstance(key, tuple | list) else (key,)
    return for_terminal(clip(" · ".join(str(part) for part in parts), length))


def _words(column: str) -> str:
    return column.replace("_", " ")
