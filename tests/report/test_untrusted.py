"""Whatever a model writes, it stays text in HTML, in Markdown and in a terminal."""

import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cyclealign.report.untrusted import clip, for_html, for_latex, for_markdown, for_message, for_terminal

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "![x](http://evil.example/a.png)",
    "link": "[press](javascript:alert(1)) <http://evil.example> http://evil.example www.evil.example",
    "table": "a | b\n|---|---|\n| c | d |",
    "heading": "# Ranking\n\nSetext\n=====\n",
    "fence": "```\n<b>\n```\n~~~\nx\n~~~",
    "escape": "\x1b[2J\x1b]0;title\x07\x9b31m\x08",
    "bidi": "abc\u202edcba\u2066\u200f",
    "trailing backslash": "ends with \\",
    "entity": "&lt;b&gt; &#60;script&#62;",
    "list": "- one\n1. two\n+ three\n* * *",
    "emphasis": "**bold** _it_ ~~gone~~ $x^2$ `code`",
    "reference": '[a]: http://evil.example "t"\n[a]',
    "surrogate": "\ud800 lone",
    "hyperlink": "\x1b]8;;http://evil.example\x1b\\press\x1b]8;;\x1b\\",
    "overwriting": "harmless\rrm -rf /\x7f\x08",
    "markup of rich": "[red]x[/] [link=http://evil.example]press[/link] [/nothing]",
}
MARKUP = st.lists(
    st.sampled_from([*"\\`*_[]()<>&|~$#+-=.:!@/ \n\t1ab", "http://", "www.", "```", "<b>", "---", "\x1b["]), max_size=40
).map("".join)
ANY_TEXT = st.one_of(st.sampled_from(list(HOSTILE.values())), MARKUP, st.text())
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def inline(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


@given(ANY_TEXT)
def test_html_shows_the_text_and_has_no_tag_of_its_own(text: str) -> None:
    parser = Tags()
    parser.feed(f'<p title="{for_html(text)}">{for_html(text)}</p>')
    parser.close()
    assert parser.tags == ["p"]
    assert parser.attributes == ["title"]
    assert "<script" not in for_html(text).lower()


@given(ANY_TEXT)
def test_html_keeps_line_breaks_and_no_other_control(text: str) -> None:
    shown = str(for_html(text))
    assert shown.count("\n") == text.replace("\r\n", "\n").count("\n")
    assert not controls(shown.replace("\n", ""))
    shown.encode("utf-8")


@given(ANY_TEXT)
def test_a_markdown_paragraph_of_it_is_plain_text(text: str) -> None:
    tokens = MARKDOWN.parse(for_markdown(text))
    assert [token.type for token in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"])
    assert {token.type for token in inline(tokens)} <= {"text"}


@given(ANY_TEXT, ANY_TEXT)
def test_a_markdown_table_keeps_its_cells(first: str, second: str) -> None:
    table = f"| a | b |\n|---|---|\n| {for_markdown(first)} | {for_markdown(second)} |\n| x | y |\n"
    tokens = MARKDOWN.parse(table)
    assert sum(token.type == "tr_open" for token in tokens) == 3
    assert sum(token.type == "td_open" for token in tokens) == 4
    assert {token.type for token in inline(tokens)} <= {"text"}


@given(ANY_TEXT)
def test_markdown_shows_the_words_as_they_were(text: str) -> None:
    tokens = MARKDOWN.parse("x" + for_markdown("x" + text))
    shown = "".join(token.content for token in inline(tokens)).replace("\u2060", "")
    assert shown == "x" + for_terminal("x" + text)


@pytest.mark.parametrize("text", ["http://evil.example/x", "see www.evil.example", "https://a.b"])
def test_addresses_are_broken_where_github_would_link_them(text: str) -> None:
    shown = for_markdown(text)
    assert "://" not in shown
    assert "www." not in shown


def test_mail_addresses_and_mentions_are_broken() -> None:
    assert for_markdown("write to a@b.example, @octocat") == "write to a@\u2060b.example, @\u2060octocat"


@pytest.mark.parametrize("number", ["+0.17 (0.08, 0.26)", "-0.1", "1,000", "12.5 %", "3"])
def test_figures_need_no_escape_in_markdown(number: str) -> None:
    assert for_markdown(number) == number


@given(ANY_TEXT)
def test_a_terminal_gets_one_line_without_controls(text: str) -> None:
    shown = for_terminal(text)
    assert not controls(shown)
    assert "\u202e" not in shown
    shown.encode("utf-8")


@given(ANY_TEXT)
def test_a_message_keeps_its_line_feeds_and_no_other_control(text: str) -> None:
    shown = for_message(text)
    assert shown.count("\n") == text.count("\n")
    assert not controls(shown.replace("\n", ""))
    shown.encode("utf-8")


def test_a_message_keeps_its_indentation_and_overwrites_nothing() -> None:
    assert for_message("two problems:\n  a: wrong\r  b: right\x9b2K") == "two problems:\n  a: wrong␍  b: right\ufffd2K"


def test_an_escape_sequence_becomes_visible() -> None:
    assert for_terminal("a\x1b[31mred\x07\nb") == "a␛[31mred␇ ⏎ b"


def test_emoji_and_persian_keep_their_joiners() -> None:
    assert for_terminal("👩\u200d💻 می\u200cخواهم") == "👩\u200d💻 می\u200cخواهم"


@given(st.text(), st.integers(1, 30))
def test_clip_never_exceeds_its_length_and_says_when_it_cut(text: str, length: int) -> None:
    clipped = clip(text, length)
    assert len(clipped) <= length
    assert clipped == text or clipped.endswith("…")


def controls(text: str) -> list[str]:
    return [character for character in text if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(r"\input{x}", r"\textbackslash{}input\{x\}", id="command"),
        pytest.param("50% & $x_1^2$ #~", r"50\% \& \$x\_1\textasciicircum{}2\$ \#\textasciitilde{}", id="signs"),
        pytest.param("[2pt]*", "{[}2pt]{*}", id="after the end of a row"),
        pytest.param('a "b" <c>', r"a ''b'' \textless{}c\textgreater{}", id="quotes"),
        pytest.param("a\n\nb\x1b", r"a \textbackslash{}n b␛", id="paragraph and control"),
    ],
)
def test_latex_acts_upon_nothing(text: str, expected: str) -> None:
    assert for_latex(text) == expected
