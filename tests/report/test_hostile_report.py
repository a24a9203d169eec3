"""A report whose every word is an attack: it is shown, on every surface, and does nothing."""

import dataclasses
import io
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from cyclealign.report.artifacts import reward_table_rows
from cyclealign.report.figures import RunFigures
from cyclealign.report.files import render_html, render_markdown
from cyclealign.report.plots import draw_plots
from cyclealign.report.terminal import summary_lines
from tests.browser import CHROMIUM, DRIVER, browser
from tests.report.page import Page

HOSTILE = (
    '</div><script>alert("x")</script><img src=x onerror=alert(1)> {{ run.name }} {% raw %}\n'
    "| a | b |\n|---|---|\n# heading\n![i](http://evil.example/i.png) [l](javascript:alert(1))\n"
    "\x1b[2J\x1b]0;owned\x07\u202egnihton [bold red]rich[/] ```"
)


@pytest.fixture(scope="module")
def hostile(figures: RunFigures) -> RunFigures:
    """The figures of a run whose every word is an attack."""
    cases = tuple(
        dataclasses.replace(case, instruction=HOSTILE, before=HOSTILE, after=HOSTILE, prompt_id=HOSTILE)
        for case in figures.cases
    )
    demonstrations = figures.demonstrations.assign(instruction=HOSTILE)
    run = dataclasses.replace(figures.run, name=HOSTILE, settings={**figures.run.settings, "profile": HOSTILE})
    rewards = tuple(
        dataclasses.replace(
            table, reward_model=HOSTILE, rows=tuple(dataclasses.replace(row, subset=HOSTILE) for row in table.rows)
        )
        for table in figures.rewards
    )
    spend = figures.spend.assign(model=HOSTILE)
    changes = {"cases": cases, "demonstrations": demonstrations, "run": run, "rewards": rewards, "spend": spend}
    return dataclasses.replace(figures, **changes)  # type: ignore[arg-type]


def test_hostile_words_stay_words_on_the_page(hostile: RunFigures, figures: RunFigures) -> None:
    tame, attacked = (render_html(each, draw_plots(figures)) for each in (figures, hostile))
    expected, found = Page(tame), Page(attacked)
    assert found.tags == expected.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not set("\x1b\x07\u202e") & set(attacked)
    assert "{{ run.name }}" in attacked


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver")
def test_a_browser_runs_and_fetches_nothing_of_a_hostile_page(hostile: RunFigures, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(hostile, draw_plots(hostile)))
    with browser() as window:
        window.open(page.as_uri())
        window.wait_for_text("{{ run.name }}")
        assert window.run("return document.scripts.length") == 0
        assert window.run("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
        assert window.complaints() == []


def test_hostile_names_stay_words_in_plots(hostile: RunFigures) -> None:
    for plot in draw_plots(hostile):
        page = Page(plot.svg)
        assert not {"script", "img"} & set(page.tags)


def test_hostile_words_stay_words_in_markdown(hostile: RunFigures, figures: RunFigures) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    plots = draw_plots(figures)
    images = {plot.name: f"plots/{plot.name}.png" for plot in plots}
    tame, attacked = (parser.parse(render_markdown(each, plots, images)) for each in (figures, hostile))
    assert [token.type for token in attacked] == [token.type for token in tame]
    children = [child for token in attacked for child in token.children or []]
    allowed = {"text", "softbreak", "image", "strong_open", "strong_close", "code_inline"}
    assert {child.type for child in children} <= allowed
    sources = {str(child.attrs["src"]) for child in children if child.type == "image"}
    assert sources == set(images.values())


def test_hostile_words_stay_words_in_a_terminal(hostile: RunFigures) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system="truecolor")
    for block in summary_lines(hostile):
        console.print(block)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not set("\x1b\x07\u202e") & set(shown)
    assert "[bold red]rich" in re.sub(r"\s+", " ", shown)


def test_hostile_names_stay_words_in_the_table_of_the_ui(hostile: RunFigures) -> None:
    """Its cells are rendered as Markdown."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    for row in reward_table_rows(hostile):
        for cell in (row["reward model"], row["subset"]):
            tokens = parser.parse(cell)
            assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
            assert {child.type for child in tokens[1].children or []} <= {"text"}
