"""Makes text that a model or a data set wrote harmless for the place it is shown in.

One function per place; text passes through exactly one of them, once. None of them shortens: `clip` first.
The wording stays readable; only what a renderer, a browser or a terminal would act upon is defused.
"""

import re
import unicodedata

from markupsafe import Markup, escape

_JOINERS = "\u200c\u200d"
"""Invisible, but words of Persian and many emoji are spelt with them."""
_LINE_BREAKS = re.compile(r"\s*(?:\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])\s*")
_MARKDOWN_ACTIVE = re.compile(r"([\\`*_\[\]<>&|~$])")
_MARKDOWN_LEADING = re.compile(r"^(?=[#=:]|[-+](?![\d.])|\d+[.)](?:\s|$))(\d*)")

_LATEX = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # behind the \\ of a row's end it would be read as a length, and a star as a part of it
    "*": "{*}",
    "−": "$-$",
    "·": r"\textperiodcentered{}",
    "→": r"$\rightarrow$",
    "⏎": r"\textbackslash{}n",
}


def clip(text: str, length: int) -> str:
    """The text in at most `length` characters; an ellipsis at the end tells that something is missing."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def clip_start(text: str, length: int) -> str:
    """The same for a dialogue, whose last turn matters most: what is missing is missing at the start."""
    return text if len(text) <= length else "…" + text[len(text) - length + 1 :].lstrip()


def for_html(text: str) -> Markup:
    """The text for HTML content or a quoted attribute; line breaks stay (show them by `pre-wrap`)."""
    return escape(for_message(text.replace("\r\n", "\n")))


def for_markdown(text: str) -> str:
    """The text as one line of Markdown that shows it literally, in a paragraph or in a table's cell.

    Line breaks become `⏎`. Addresses are kept from turning into links: a backslash parts `://` and `www.`,
    and an invisible word joiner follows `@`, because GitHub links e-mail addresses even where the `@` is
    escaped.
    """
    line = _MARKDOWN_ACTIVE.sub(r"\\\1", _one_line(text))
    line = _MARKDOWN_LEADING.sub(r"\1\\", line)
    line = re.sub(r"(?i)\b(www)\.", r"\1\\.", line.replace("://", ":\\//"))
    return line.replace("@", "@\u2060")


def for_latex(text: str) -> str:
    """The text as one line for LaTeX's text mode; every character that TeX acts upon is spelt out.

    Letters beyond ASCII stay, as LaTeX reads UTF-8; a few signs of our own get their commands.
    """
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def for_terminal(text: str) -> str:
    """The text as one line that moves no cursor, colours, rings or reverses nothing; breaks become `⏎`."""
    return _one_line(text)


def for_message(text: str) -> str:
    """The text for a terminal with its line feeds; nothing else in it is acted upon."""
    return "\n".join(_visible(line) for line in text.split("\n"))


def _one_line(text: str) -> str:
    marked = _LINE_BREAKS.sub(" ⏎ ", text.strip())
    return _visible(" ".join(marked.split()))


def _visible(text: str) -> str:
    return "".join(character if _harmless(character) else _picture(character) for character in text)


def _harmless(character: str) -> bool:
    """False for controls, for format characters such as bidirectional overrides, and for lone surrogates."""
    return character in _JOINERS or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def _picture(character: str) -> str:
    """A visible stand-in: Unicode's picture of an ASCII control (␛ for escape), `�` for everything else."""
    if character == "\t":
        return " "
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\ufffd"
