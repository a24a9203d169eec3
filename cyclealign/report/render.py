"""Blocks as HTML, Markdown, LaTeX and for a terminal, and the files of a report.

Every text is made harmless for its place exactly once: for HTML by `_tag`, which puts values into markup, elsewhere by
`untrusted`'s function for the place. Knows neither DuckDB nor Prefect.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from cyclealign.disk import writing
from cyclealign.errors import UsageError
from cyclealign.report.blocks import Block, Heading, Notes, Plot, Table, Title
from cyclealign.report.catalogue import CATALOGUE, entry_of
from cyclealign.report.exhibits import Exhibit
from cyclealign.report.figures import RunFigures
from cyclealign.report.plots import draw, standalone
from cyclealign.report.untrusted import for_html, for_latex, for_markdown, for_terminal

PAGE = "report.html"
LONGEST_WORDS = 60
"""Characters of a cell that LaTeX sets in one line."""
SOURCE = "Every figure comes from the ledger, through the SQL files in sql/exhibits."
_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="referrer" content="no-referrer">
<title>{} · CycleAlign</title>
<style>
{}</style>
</head>
<body>
<main>
{}
</main>
<footer>{}</footer>
</body>
</html>
"""


def html(name: str, blocks: Sequence[Block]) -> str:
    """A page that needs nothing else; its policy forbids scripts and any address outside the page."""
    style = Markup(files("cyclealign.report").joinpath("style.css").read_text(encoding="utf-8"))  # noqa: S704  ours
    return str(_tag(_HTML, name, style, _joined(map(_html, blocks), "\n"), SOURCE))


def _tag(pattern: str, *values: object) -> Markup:
    """The markup with values in its places, each escaped unless it is markup already."""
    safe = [value if isinstance(value, Markup) else for_html(str(value)) for value in values]
    return Markup(pattern.format(*safe))  # noqa: S704  this is the escape


def _joined(parts: Iterator[Markup], between: str = "") -> Markup:
    return Markup(between).join(parts)  # noqa: S704  a constant


def _html(block: Block) -> Markup:
    match block:
        case Title():
            card = '<div class="card"><dt>{}</dt><dd>{}<span class="detail">{}</span></dd></div>'
            cards = _joined(_tag(card, *one) for one in block.cards)
            return _tag('<h1>{}</h1>\n<p class="lead">{}</p>\n<dl class="cards">{}</dl>', block.text, block.lead, cards)
        case Heading():
            return _tag('<h2 id="{}">{}</h2>', block.anchor, block.text)
        case Table():
            shown = _html_table(block)
            return _tag("<details><summary>{}</summary>{}</details>", block.caption, shown) if block.folded else shown
        case Notes():
            items = _joined(_tag("<li>{}</li>\n", note) for note in block.texts)
            return _tag('<aside class="notes"><h3>{}</h3><ul>\n{}</ul></aside>', block.title, items)
        case Plot():
            picture = '<figure><div class="plot" role="img" aria-label="{}">{}</div></figure>'
            return _tag(picture, block.alt, Markup(block.svg))  # noqa: S704  drawn by `plots`
    return _tag("<p>{}</p>", block)


def _html_table(table: Table) -> Markup:
    def cells(pattern: str, row: Sequence[str]) -> Markup:
        words = Markup(' class="words" dir="auto"')
        return _joined(_tag(pattern, words if place < table.text_columns else "", one) for place, one in enumerate(row))

    caption = _tag("<caption>{}</caption>", table.caption) if table.caption and not table.folded else ""
    head = _tag("<thead><tr>{}</tr></thead>", cells('<th scope="col"{}>{}</th>', table.columns))
    rows = [cells("<td{}>{}</td>", row) for row in table.rows]
    body = [_tag("<tr>{}</tr>\n", row) for row in rows]
    if table.total:
        body[-1] = _tag('<tr class="total">{}</tr>\n', rows[-1])
    grid = '<div class="scroll"><table>{}{}<tbody>\n{}</tbody></table></div>'
    return _tag(grid, caption, head if table.columns else "", _joined(iter(body)))


def markdown(blocks: Sequence[Block], images: Mapping[str, str]) -> str:
    """The same as Markdown; `images` maps a plot's name to the address under which it is shown."""
    return "\n\n".join(part for block in blocks for part in _markdown(block, images)) + "\n"


def _markdown(block: Block, images: Mapping[str, str]) -> Iterator[str]:
    match block:
        case Title():
            yield f"# {for_markdown(block.text)}"
            yield for_markdown(block.lead)
            cards = (tuple(map(for_markdown, card)) for card in block.cards)
            yield "\n".join(f"- {label}: **{value}** ({detail})" for label, value, detail in cards)
        case Heading():
            yield f"## {for_markdown(block.text)}"
        case Table() if block.folded:
            yield f"<details><summary>{for_markdown(block.caption)}</summary>"
            yield _grid(block)
            yield "</details>"
        case Table():
            if block.caption:
                yield f"**{for_markdown(block.caption)}**"
            yield _grid(block)
        case Notes():
            yield f"**{for_markdown(block.title)}**"
            yield "\n".join(f"- {for_markdown(note)}" for note in block.texts)
        case Plot():
            yield f"![{for_markdown(block.alt)}]({images[block.name]})"
        case _:
            yield for_markdown(block)


def _grid(table: Table) -> str:
    columns = table.columns or ("",) * len(table.rows[0])
    marks = ["---" if place < table.text_columns else "---:" for place in range(len(columns))]
    lines = [[*map(for_markdown, columns)], marks, *([*map(for_markdown, row)] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_one(blocks: Sequence[Block]) -> str:
    """Markdown that holds its plots itself, as PNG: Prefect's UI strips inline SVG."""
    plots = [block for block in blocks if isinstance(block, Plot)]
    return markdown(blocks, {one.name: f"data:image/png;base64,{base64.b64encode(one.png).decode()}" for one in plots})


def exhibit_blocks(exhibit: Exhibit) -> list[Block]:
    """The exhibit's tables and notes with a heading."""
    tables = [replace(one, caption="") if one.caption == exhibit.title else one for one in exhibit.everything]
    return [Heading(exhibit.title), *tables, *exhibit.notes]


def as_latex(exhibit: Exhibit) -> str:
    """One `table` environment for each table, which needs no package, and the notes as comments.

    A comment holds no line break, so nothing in it gets out of it.
    """
    notes = [f"% {for_latex(note)}" for note in exhibit.notes]
    return "\n\n".join([*map(_latex, exhibit.everything), "\n".join(notes)]) + "\n"


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(for_latex, cells)) + r" \\"

    places = ["l" if place < table.text_columns else "r" for place in range(len(table.columns))]
    for place in range(len(places)):  # whole texts in a column of lines
        if any(len(row[place]) > LONGEST_WORDS for row in table.rows):
            places[place] = r"p{0.25\linewidth}"
    head = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{''.join(places)}}}", r"\hline"]
    tail = [r"\hline", r"\end{tabular}", rf"\caption{{{for_latex(table.caption)}}}", r"\end{table}"]
    return "\n".join([*head, line(table.columns), r"\hline", *map(line, table.rows), *tail])


def terminal(blocks: Sequence[Block]) -> list[RenderableType]:
    """One renderable per block, for `rich.console.Console.print`. Text of models is never read as markup."""
    return [Padding(one, (0, 0, 1, 0)) for block in blocks for one in _terminal(block)]


def _terminal(block: Block) -> Iterator[RenderableType]:
    match block:
        case Table():
            yield rich_table(block)
        case Notes():
            yield from (Text(f"· {for_terminal(note)}") for note in block.texts)
        case str():
            yield Text(for_terminal(block))


def rich_table(table: Table) -> RichTable:
    """The table for a terminal."""
    title = Text(for_terminal(table.caption), style="bold") if table.caption else None
    grid = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    if not table.columns:
        grid = RichTable.grid("", "", padding=(0, 2))
        grid.columns[0].style, grid.columns[1].overflow = "cyan", "fold"
    for place, name in enumerate(table.columns):
        grid.add_column(Text(for_terminal(name)), justify="left" if place < table.text_columns else "right")
    for index, row in enumerate(table.rows, start=1):
        total = table.total and index == len(table.rows)
        grid.add_row(*(Text(for_terminal(cell)) for cell in row), style="bold" if total else "")
    return grid


class ReportFiles(NamedTuple):
    """Where the report lies."""

    html: Path
    markdown: Path
    figures_json: Path
    plots: tuple[Path, ...]


def write_report(figures: RunFigures, blocks: Sequence[Block], folder: Path) -> ReportFiles:
    """Write `report.html`, `report.md`, `figures.json` and `plots/*.png` into `folder`, over older ones.

    Raises:
        StorageFull: the disk is full or read-only.
    """
    plots = {folder / "plots" / f"{block.name}.png": block for block in blocks if isinstance(block, Plot)}
    found = ReportFiles(folder / PAGE, folder / "report.md", folder / "figures.json", tuple(plots))
    with writing(folder):
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        for path, plot in plots.items():
            path.write_bytes(plot.png)
        found.html.write_text(html(figures.run["name"], blocks), encoding="utf-8")
        images = {plot.name: f"plots/{path.name}" for path, plot in plots.items()}
        found.markdown.write_text(markdown([*blocks, SOURCE], images), encoding="utf-8")
        text = json.dumps(figures.as_json(), ensure_ascii=True, allow_nan=False, indent=1)
        found.figures_json.write_text(text + "\n", encoding="utf-8")
    return found


def plot_of(exhibit: Exhibit) -> Plot | None:
    """The exhibit drawn; None where the catalogue says nothing about drawing it, or it has no rows."""
    drawing = entry_of(exhibit.name).drawing
    if drawing is None or exhibit.frame.empty:
        return None
    return draw(exhibit.name, exhibit.title, exhibit.frame, drawing)


def write_plot(exhibit: Exhibit, path: Path) -> None:
    """Draw the exhibit into a PNG or SVG file.

    Raises:
        UsageError: the file is neither, or there is nothing to draw.
        StorageFull: the disk is full or read-only.
    """
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"Found --plot {path}, expected a file that ends in .png or .svg.")
    plot = plot_of(exhibit)
    if plot is None:
        drawn = ", ".join(name.replace("_", "-") for name, entry in CATALOGUE.items() if entry.drawing)
        why = "has no rows yet" if exhibit.frame.empty else "is not drawn"
        raise UsageError(f"Exhibit {exhibit.name.replace('_', '-')} {why}. Expected rows of one that is: {drawn}.")
    with writing(path):
        path.write_bytes(plot.png if path.suffix == ".png" else standalone(plot).encode())
