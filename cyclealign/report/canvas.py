"""How every plot of the report looks, and how it leaves: as a PNG, and as an SVG in the page's own colours.

Colours are Okabe and Ito's, told apart with any colour vision and never the only mark of a difference. The
SVG names its colours as CSS variables, so that one plot serves a light and a dark page. No pyplot: no global
figures.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

INK, FAINT, GRID = "#222222", "#767676", "#dddddd"
BEFORE, AFTER = "#0072b2", "#d55e00"
_CSS = {INK: "--ink", FAINT: "--faint", GRID: "--line", BEFORE: "--before", AFTER: "--after"}
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.fonttype": "none",
}
_WIDTH_INCHES = 8.4
_PIXELS_PER_INCH = 130


@dataclass(frozen=True)
class Plot:
    """One plot in both forms, with words for those who cannot see it."""

    name: str
    alt: str
    png: bytes
    svg: str


def render(name: str, alt: str, height: float, draw: Callable[[Figure], None]) -> Plot:
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
