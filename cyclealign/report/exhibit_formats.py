"""An exhibit as Markdown, as LaTeX and as a picture; whatever a cell holds is only shown.

Leaves out tables in a terminal (`terminal`), and CSV and JSON, which are the exhibit's frame as it is.
"""

from pathlib import Path

from cyclealign.disk import writing
from cyclealign.errors import UsageError
from cyclealign.report.canvas import Plot, standalone
from cyclealign.report.catalogue import CATALOGUE
from cyclealign.report.exhibit_plots import draw
from cyclealign.report.exhibits import Exhibit
from cyclealign.report.tables import Table
from cyclealign.report.untrusted import for_latex, for_markdown

LONGEST_WORDS = 60
"""Characters of a cell that LaTeX sets in one line."""


def as_markdown(exhibit: Exhibit) -> str:
    """The tables and notes as Markdown, with a heading."""
    notes = [for_markdown(note) for note in exhibit.notes]
    parts = [
        f"## {for_markdown(exhibit.title)}",
        *(_markdown_table(table, exhibit.title) for table in exhibit.tables),
        *notes,
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table, heading: str) -> str:
    marks = ["---" if place < table.text_columns else "---:" for place in range(len(table.columns))]
    lines = [_markdown_row([for_markdown(name) for name in table.columns]), _markdown_row(marks)]
    lines += [_markdown_row([for_markdown(cell) for cell in row]) for row in table.rows]
    caption = [] if table.caption == heading else [f"**{for_markdown(table.caption)}**", ""]
    return "\n".join([*caption, *lines])


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def as_latex(exhibit: Exhibit) -> str:
    """One `table` environment for each table, which needs no package, and the notes as comments.

    A comment holds no line break, so nothing in it gets out of it.
    """
    notes = [f"% {for_latex(note)}" for note in exhibit.notes]
    return "\n\n".join([*(_latex_table(table) for table in exhibit.tables), "\n".join(notes)]) + "\n"


def _latex_table(table: Table) -> str:
    places = "".join(_latex_column(table, place) for place in range(len(table.columns)))
    head = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{places}}}", r"\hline"]
    rows = [_latex_row(table.columns), r"\hline", *(_latex_row(row) for row in table.rows), r"\hline"]
    tail = [r"\end{tabular}", rf"\caption{{{for_latex(table.caption)}}}", r"\end{table}"]
    return "\n".join([*head, *rows, *tail])


def _latex_column(table: Table, place: int) -> str:
    """Figures to the right, words to the left, whole texts in a column of lines."""
    if any(len(row[place]) > LONGEST_WORDS for row in table.rows):
        return r"p{0.25\linewidth}"
    return "l" if place < table.text_columns else "r"


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(for_latex(cell) for cell in cells) + r" \\"


def plot_of(exhibit: Exhibit) -> Plot | None:
    """The exhibit drawn; None where the catalogue says nothing about drawing it, or it has no rows."""
    entry = CATALOGUE.get(exhibit.name)
    if entry is None or entry.drawing is None or exhibit.frame.empty:
        return None
    return draw(exhibit.name, exhibit.title, exhibit.frame, entry.drawing)


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
