"""What exhibits and reports are made of, and how figures are written in it; the same for every renderer.

Texts are plain: each renderer (`render`) makes them safe for its own place. Minus is `−`, so no renderer takes it for
a list.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cyclealign.statistics import Interval

MISSING = "–"
DIGITS = 3
"""Behind the point, where nothing else is said."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A caption, column names (none: labels and values) and rows of short strings."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    """Leading columns of words; the others hold figures."""
    total: bool = False
    """The last row sums up the others."""
    folded: bool = False
    """Shown when the reader asks for it, where the place allows that."""


@dataclass(frozen=True)
class Plot:
    """One plot in both forms, with words for those who cannot see it."""

    name: str
    alt: str
    png: bytes
    svg: str


@dataclass(frozen=True)
class Title:
    """The head of a page: whose it is, a sentence, and the figures seen first as label, value and detail."""

    text: str
    lead: str
    cards: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Heading:
    """Of a section; `anchor` is its address on the page."""

    text: str
    anchor: str = ""


@dataclass(frozen=True)
class Notes:
    """Reservations, one paragraph each."""

    title: str
    texts: tuple[str, ...]


Block = str | Table | Plot | Title | Heading | Notes


def words(name: str) -> str:
    """A column's name as people write it."""
    return name if len(name) == 1 else name[0].upper() + name[1:].replace("_", " ")


def number(value: float | None, digits: int = DIGITS) -> str:
    """A figure with thousands separators."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = DIGITS) -> str:
    """A difference, always with its sign."""
    return f"{value:+,.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return number(value, 0)


def percent(share: float | None, digits: int = 0) -> str:
    """A share in 0..1 as a percentage."""
    return MISSING if share is None or not math.isfinite(share) else f"{number(100 * share, digits)} %"


def interval(value: Interval | None, digits: int = DIGITS, write: Callable[[float, int], str] = number) -> str:
    """A mean with its 95% interval in parentheses; the mean alone where it has none, as of a lone prompt."""
    if value is None:
        return MISSING
    shown = write(value.mean, digits)
    ends = (value.low, value.high)
    return shown if any(map(math.isnan, ends)) else f"{shown} ({', '.join(write(end, digits) for end in ends)})"


def usd(amount: float) -> str:
    """US dollars; small amounts keep their first digits, nothing is rounded to zero unseen."""
    if 0 < amount < 0.01:
        return f"${amount:.2g}" if amount >= 0.0001 else "under $0.0001"
    return f"${amount:,.2f}"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def moment(iso: str | None) -> str:
    """A time of day from ISO 8601, to the minute, with its zone."""
    return MISSING if iso is None else datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M %Z").strip()
