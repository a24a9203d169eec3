"""Exhibits as plots, each as a PNG and as an SVG in the page's own colours; what is drawn stands in the catalogue.

Colours are Okabe and Ito's, told apart with any colour vision and never the only mark of a difference. The SVG names
its colours as CSS variables, so that one plot serves a light and a dark page. No pyplot: no global figures.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from cyclealign.report.blocks import Plot, words
from cyclealign.report.catalogue import Bars, Drawing, Lines, Points
from cyclealign.report.companions import ALL
from cyclealign.report.untrusted import clip, for_terminal

INK, FAINT, GRID = "#222222", "#767676", "#dddddd"
BEFORE, AFTER = "#0072b2", "#d55e00"
COLOURS = (BEFORE, AFTER, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
STYLES, MARKS = ("-", "--", "-.", ":"), ("o", "s", "D", "^", "v", "P", "X")
_CSS = {INK: "--ink", FAINT: "--faint", GRID: "--line", BEFORE: "--before", AFTER: "--after"}
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "text.parse_math"), False),
    **{"axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "font.size": 9.0},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6},
    **{"lines.linewidth": 1.6, "svg.fonttype": "none"},
}
_WIDTH_INCHES, _PIXELS_PER_INCH = 8.4, 130
FEW_POINTS = 12
"""So few get a mark each; a lone one draws no line."""
BINS = 80
"""More points of a curve are shown as means of bins, with the band that holds 10 to 90 percent of them."""
LONGEST_LABEL = 60
MOST_PLACES = 40
"""Rows of a plot of means or bars; more would not be read."""


def draw(name: str, title: str, frame: pd.DataFrame, drawing: Drawing) -> Plot:
    """The plot of an exhibit's rows, of which there is at least one."""
    if isinstance(drawing, Lines):
        return _lines(name, title, frame, drawing)
    if isinstance(drawing, Bars):
        return _bars(name, title, frame.head(MOST_PLACES))
    totals = frame[frame["subset"] == ALL] if "subset" in frame and "subset" not in drawing.labels else frame
    return _points(name, title, totals.head(MOST_PLACES), drawing)


def _lines(name: str, title: str, frame: pd.DataFrame, drawing: Lines) -> Plot:
    """A row of panels per combination of the columns that say under which conditions a curve was measured."""
    apart = [name for name in ("profile", "other_settings", "reward_model") if name in frame]
    apart = [name for name in apart if name not in drawing.series]
    groups = list(frame.groupby(apart, sort=False, dropna=False)) if apart else [("", frame)]
    panels = [columns for columns in drawing.panels if frame[list(columns)].notna().any().any()]

    def draw_lines(figure: Figure) -> None:
        grid = figure.subplots(len(groups), max(len(panels), 1), squeeze=False, sharex=True)
        for row, (key, part) in zip(grid, groups, strict=True):
            for axes, columns in zip(row, panels, strict=True):
                _panel(axes, part, columns, drawing)
            row[0].set(title=_label(key))
        for axes in grid[-1]:
            axes.set_xlabel(words(drawing.x))

    return _render(name, title, 0.4 + 2.4 * len(groups), draw_lines)


def _panel(axes: Axes, frame: pd.DataFrame, columns: tuple[str, ...], drawing: Lines) -> None:
    series = [name for name in (*drawing.series, "run_name") if name in frame and frame[name].nunique() > 1]
    groups = list(frame.groupby(series, sort=False, dropna=False)) if series else [((), frame)]
    curves = [(column, key, part) for column in columns for key, part in groups]
    for look, (column, key, part) in enumerate(curves):
        parts = [words(column)] if len(columns) > 1 else []
        _curve(axes, look, part.sort_values(drawing.x), (drawing.x, column), _label([*parts, *key]))
    if drawing.chance is not None:
        axes.axhline(drawing.chance, color=FAINT, linewidth=1)
    if len(groups) > 1:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    elif len(columns) > 1:
        axes.legend(fontsize=8)
    axes.set(ylabel=words(columns[0]))


def _curve(axes: Axes, look: int, rows: pd.DataFrame, names: tuple[str, str], label: str) -> None:
    """One of several curves over x, by column names: each look has its colour, line and mark."""
    x, y = (rows[name].astype(float) for name in names)
    low, high = _bounds(rows, names[1])
    if len(x) > BINS:
        bins = y.groupby(np.arange(len(x)) * BINS // len(x))
        x = x.groupby(np.arange(len(x)) * BINS // len(x)).mean()
        y, low, high = bins.mean(), bins.quantile(0.1), bins.quantile(0.9)
    style, colour = STYLES[look % len(STYLES)], COLOURS[look % len(COLOURS)]
    mark = MARKS[look % len(MARKS)] if len(x) <= FEW_POINTS else ""
    axes.plot(x, y, style, color=colour, marker=mark, markersize=3, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _bounds(rows: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """The interval of a column, else its spread to both sides, else nothing."""
    if f"{name}_low" in rows:
        return rows[f"{name}_low"].astype(float), rows[f"{name}_high"].astype(float)
    spread = rows.get(f"spread_of_{name}")
    reach = pd.Series(np.nan, index=rows.index) if spread is None else spread.astype(float)
    return rows[name].astype(float) - reach, rows[name].astype(float) + reach


def _points(name: str, title: str, rows: pd.DataFrame, drawing: Points) -> Plot:
    rows = rows[rows[drawing.panels[0][0]].notna()]

    def draw_points(figure: Figure) -> None:
        grid = figure.subplots(1, len(drawing.panels), squeeze=False, sharey=True)[0]
        places = _places(grid[0], _row_labels(rows, drawing.labels))
        for axes, columns in zip(grid, drawing.panels, strict=True):
            for look, column in enumerate(columns):
                style = {"color": COLOURS[look], "fmt": MARKS[look]} if len(columns) > 1 else {"color": INK, "fmt": "D"}
                _means(axes, rows, column, places + 0.13 * (len(columns) - 1 - 2 * look), style)
            axes.set(xlabel=words(columns[0]))
            axes.grid(visible=False, axis="y")
            if len(columns) > 1:
                _legend_above(axes)
            if "difference" in columns:
                axes.axvline(0, color=FAINT, linewidth=1)
        grid[0].set(xlabel=drawing.title)

    return _render(name, title, 0.9 + 0.28 * len(rows), draw_points)


def _means(axes: Axes, rows: pd.DataFrame, name: str, places: np.ndarray, style: dict[str, Any]) -> None:
    """Means with their intervals; one without an interval, as of a lone prompt, gets no bar."""
    mean, (low, high) = rows[name].astype(float), _bounds(rows, name)
    reach = np.nan_to_num([mean - low, high - mean])
    axes.errorbar(mean, places, xerr=reach, markersize=4, capsize=2, label=name, **style)


def _bars(name: str, title: str, rows: pd.DataFrame) -> Plot:
    def draw_bars(figure: Figure) -> None:
        axes = figure.subplots()
        places, left = _places(axes, _row_labels(rows, ("subset", "role", "against"))), np.zeros(len(rows))
        for share, colour, hatch in (("win", AFTER, ""), ("tie", GRID, ""), ("lose", BEFORE, "////")):
            width = rows[share].astype(float).to_numpy()
            axes.barh(places, width, left=left, color=colour, hatch=hatch, edgecolor="white", label=share)
            left = left + width
        axes.set(xlabel="% of prompts", xlim=(0, 100))
        _legend_above(axes)

    return _render(name, title, 1.1 + 0.28 * len(rows), draw_bars)


def _places(axes: Axes, labels: list[str]) -> np.ndarray:
    """Where rows stand, the first on top; labels them."""
    places = np.arange(len(labels))[::-1].astype(float)
    axes.set_yticks(places, labels)
    axes.set(ylim=(-0.6, len(labels) - 0.4))
    axes.grid(visible=False, axis="y")
    return places


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)


def _row_labels(rows: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    """What tells the rows apart; where they come from and under which run and judge, where that differs."""
    differing = [name for name in ("run_name", "reward_model", "judge") if name in rows and rows[name].nunique() > 1]
    shown = [name for name in (*columns, "source", *differing) if name in rows]
    return [_label([row[name] for name in shown if pd.notna(row[name])]) for _, row in rows.iterrows()]


def _label(key: object) -> str:
    parts = key if isinstance(key, tuple | list) else (key,)
    return for_terminal(clip(" · ".join(str(part) for part in parts), LONGEST_LABEL))


def _render(name: str, alt: str, height: float, draw: Callable[[Figure], None]) -> Plot:
    """The plot that `draw` puts on an empty figure of this height (inches); same input, same bytes."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_PIXELS_PER_INCH)
        draw(figure)
        # once: a figure that keeps its engine draws everything twice for each file
        ConstrainedLayoutEngine().execute(figure)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=_PIXELS_PER_INCH, facecolor="white")
        undated = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=undated)
    return Plot(name, alt, _small(png), _themed(svg.getvalue(), name))


def standalone(plot: Plot) -> str:
    """The plot's SVG as a file of its own, its colours written out: few programs know CSS variables."""
    svg = plot.svg
    for colour, variable in _CSS.items():
        svg = svg.replace(f"var({variable})", colour)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg.replace("inherit", "'DejaVu Sans', sans-serif")


def _small(png: io.BytesIO) -> bytes:
    """The picture with 64 colours instead of 24 bits of them: a third of the size, no difference to see."""
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def _themed(svg: str, name: str) -> str:
    """The bare `<svg>` element, as wide as its place, its colours and font those of the page around it.

    Element ids get the plot's name in front, because several plots share one page.
    """
    opening, rest = svg[svg.index("<svg") :].split(">", maxsplit=1)
    body = re.sub(r' (?:width|height)="[^"]*"', "", opening) + ">" + rest
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", body)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", body)
    for colour, variable in _CSS.items():
        body = body.replace(colour, f"var({variable})")
    return body
