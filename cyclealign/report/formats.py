"""How figures are written: digits, signs, units. Minus is `−`, so no renderer takes it for a list."""

import math
from datetime import datetime

from cyclealign.statistics import Interval

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with thousands separators."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A difference, always with its sign."""
    return f"{value:+,.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return number(value, 0)


def percent(share: float | None, digits: int = 0) -> str:
    """A share in 0..1 as a percentage."""
    return MISSING if share is None or not math.isfinite(share) else f"{number(100 * share, digits)} %"


def shares(*parts: float) -> str:
    """Shares in 0..1 side by side as whole percentages."""
    return "/".join(f"{100 * part:.0f}" for part in parts) + " %"


def interval(value: Interval, digits: int = 3) -> str:
    """A mean with its 95% interval in parentheses."""
    return f"{number(value.mean, digits)} ({number(value.low, digits)}, {number(value.high, digits)})"


def signed_interval(value: Interval, digits: int = 3) -> str:
    """A mean difference with its 95% interval in parentheses."""
    return f"{signed(value.mean, digits)} ({signed(value.low, digits)}, {signed(value.high, digits)})"


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
