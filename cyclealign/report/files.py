"""Writes a run's report: one HTML page that needs nothing else, Markdown with plots, and figures as JSON.

Every value that a template prints is escaped once, by the environment: for HTML or for Markdown, whichever is
rendered. A template author cannot forget it. Only the plots and the addresses of images, both made here, are
exempt (`safe`).
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cyclealign.disk import writing
from cyclealign.report.canvas import Plot
from cyclealign.report.content import compose
from cyclealign.report.figures import RunFigures, as_json
from cyclealign.report.untrusted import for_html, for_markdown

PAGE = "report.html"


@dataclass(frozen=True)
class ReportFiles:
    """Where the report lies."""

    html: Path
    markdown: Path
    figures_json: Path
    plots: tuple[Path, ...]


def write_report(figures: RunFigures, plots: Sequence[Plot], folder: Path) -> ReportFiles:
    """Write `report.html`, `report.md`, `figures.json` and `plots/*.png` into `folder`, over older ones.

    Raises:
        StorageFull: the disk is full or read-only.
    """
    with writing(folder):
        return _write(figures, plots, folder)


def _write(figures: RunFigures, plots: Sequence[Plot], folder: Path) -> ReportFiles:
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    files = ReportFiles(
        html=folder / PAGE,
        markdown=folder / "report.md",
        figures_json=folder / "figures.json",
        plots=tuple(folder / "plots" / f"{plot.name}.png" for plot in plots),
    )
    for plot, path in zip(plots, files.plots, strict=True):
        path.write_bytes(plot.png)
    files.html.write_text(render_html(figures, plots), encoding="utf-8")
    images = {plot.name: f"plots/{plot.name}.png" for plot in plots}
    files.markdown.write_text(render_markdown(figures, plots, images), encoding="utf-8")
    text = json.dumps(as_json(figures), ensure_ascii=True, allow_nan=False, indent=1)
    files.figures_json.write_text(text + "\n", encoding="utf-8")
    return files


def render_html(figures: RunFigures, plots: Sequence[Plot]) -> str:
    """The page; plots stand in it as SVG, and its policy forbids scripts and any address outside the page."""
    return _render("report.html.j2", for_html, figures, plots, {})


def render_markdown(figures: RunFigures, plots: Sequence[Plot], images: Mapping[str, str]) -> str:
    """The same content as Markdown; `images` maps a plot's name to the address under which it is shown."""
    return _render("report.md.j2", for_markdown, figures, plots, images)


def data_uri(plot: Plot) -> str:
    """The plot's PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(plot.png).decode()


def _render(
    template: str, escape: Callable[[str], str], figures: RunFigures, plots: Sequence[Plot], images: Mapping[str, str]
) -> str:
    named = dict.fromkeys(("rewards", "agreement", "losses")) | {plot.name: plot for plot in plots}
    page = compose(figures)
    return _environment(escape).get_template(template).render(page=page, run=figures.run, plots=named, images=images)


@cache
def _environment(escape: Callable[[str], str]) -> Environment:
    def once(value: Any) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704  this is the escape

    return Environment(
        loader=PackageLoader("cyclealign.report"),
        autoescape=True,
        finalize=once,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
