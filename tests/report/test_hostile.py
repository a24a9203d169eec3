"""A report whose every word is an attack: it is shown, on every surface, and does nothing."""

import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from cyclealign.report.blocks import Plot
from cyclealign.report.figures import RunFigures
from cyclealign.report.page import report, summary
from cyclealign.report.render import html, markdown, terminal
from tests.browser import CHROMIUM, DRIVER, browser

HOSTILE = (
    '</div><script>alert("x")</script><img src=x onerror=alert(1)> {{ run.name }} {} {0} {% raw %}\n'
    "| a | b |\n|---|---|\n# heading\n![i](http://evil.example/i.png) [l](javascript:alert(1))\n"
    "\x1b[2J\x1b]0;owned\x07\u202egnihton [bold red]rich[/] ```"
)


class Page(HTMLParser):
    """What a browser would find in a page: tags with their attributes, and the addresses it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


@pytest.fixture(scope="module")
def hostile(figures: RunFigures) -> RunFigures:
    """The figures of a run whose every word is an attack."""
    words = dict.fromkeys(("instruction", "text_before", "text_after", "prompt_id", "subset"), HOSTILE)
    frames = {
        **figures.frames,
        "demonstrations": figures.frames["demonstrations"].assign(instruction=HOSTILE),
        "gains": figures.frames["gains"].replace(
            {"reward_model": {"reward-head": HOSTILE, "judge-head": f"judge {HOSTILE}"}}
        ),
        "spend": figures.frames["spend"].assign(model=HOSTILE),
    }
    run = {**figures.run, "name": HOSTILE, "settings": {**figures.run["settings"], "profile": HOSTILE}}
    cases = [{**case, **words} for case in figures.cases]
    return dataclasses.replace(figures, run=run, cases=cases, frames=frames)


def test_hostile_words_stay_words_on_the_page(hostile: RunFigures, figures: RunFigures) -> None:
    tame, attacked = (html(each.run["name"], report(each)) for each in (figures, hostile))
    expected, found = Page(tame), Page(attacked)
    assert found.tags == expected.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not set("\x1b\x07\u202e") & set(attacked)
    assert "{{ run.name }} {} {0}" in attacked


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver")
def test_a_browser_runs_and_fetches_nothing_of_a_hostile_page(hostile: RunFigures, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html(HOSTILE, report(hostile)))
    with browser() as window:
        window.open(page.as_uri())
        window.wait_for_text("{{ run.name }}")
        assert window.run("return document.scripts.length") == 0
        assert window.run("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
        assert window.complaints() == []


def test_hostile_words_stay_words_in_markdown(hostile: RunFigures, figures: RunFigures) -> None:
    """So they do in the tables of the run page, whose cells are rendered as Markdown."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    tame, attacked = (report(each) for each in (figures, hostile))
    images = {block.name: f"plots/{block.name}.png" for block in tame if isinstance(block, Plot)}
    tokens = [parser.parse(markdown(blocks, images)) for blocks in (tame, attacked)]
    assert [token.type for token in tokens[1]] == [token.type for token in tokens[0]]
    children = [child for token in tokens[1] for child in token.children or []]
    assert {child.type for child in children} <= {"text", "softbreak", "image", "strong_open", "strong_close"}
    assert {str(child.attrs["src"]) for child in children if child.type == "image"} == set(images.values())


def test_hostile_words_stay_words_in_a_terminal(hostile: RunFigures) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system="truecolor")
    for block in terminal(summary(hostile)):
        console.print(block)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not set("\x1b\x07\u202e") & set(shown)
    assert "[bold red]rich" in re.sub(r"\s+", "", shown).replace("[boldred]", "[bold red]")


def test_hostile_names_stay_words_in_plots(hostile: RunFigures) -> None:
    for plot in (block for block in report(hostile) if isinstance(block, Plot)):
        assert not {"script", "img"} & set(Page(plot.svg).tags)
