"""A row of the benchmarks: a figure, the bar that it has to clear, and how far its repeats lie apart.

Leaves out: how figures are measured (`benchmarks.measuring` and the scripts) and where they are shown and kept
(`benchmarks.results`).
"""

from dataclasses import dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to be; reaching the value exactly is enough."""

    kind: Literal["at_least", "at_most"]
    value: float

    def cleared_by(self, figure: float) -> bool:
        """Whether the figure is on the right side."""
        return figure >= self.value if self.kind == "at_least" else figure <= self.value


def at_least(value: float) -> Bar:
    """The bar of a figure that should be large, for example how many times faster than a peer."""
    return Bar("at_least", value)


def at_most(value: float) -> Bar:
    """The bar of a figure that should be small, for example a share of the time."""
    return Bar("at_most", value)


@dataclass(frozen=True, slots=True)
class Row:
    """One claim and what was measured of it.

    `values` holds one figure per repeat; empty: it cannot be measured on this machine, and `note` says why.
    A figure without a `unit` is a ratio.
    """

    name: str
    bar: Bar
    values: tuple[float, ...] = ()
    unit: str | None = None
    note: str | None = None

    @property
    def ratio(self) -> float | None:
        """The median of the repeats; None when nothing was measured."""
        return median(self.values) if self.values else None

    @property
    def low(self) -> float | None:
        """The smallest of the repeats."""
        return min(self.values, default=None)

    @property
    def high(self) -> float | None:
        """The largest of the repeats."""
        return max(self.values, default=None)

    @property
    def missed(self) -> bool:
        """Whether the median does not clear the bar; what was not measured misses nothing."""
        return self.ratio is not None and not self.bar.cleared_by(self.ratio)

    def as_dict(self) -> dict[str, Any]:
        """The row's form in `results.json`, figures rounded to four significant digits."""
        plain = {
            "name": self.name,
            "ratio": _rounded(self.ratio),
            self.bar.kind: self.bar.value,
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "repeats": len(self.values),
        }
        return plain | {key: value for key in ("unit", "note") if (value := getattr(self, key)) is not None}


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.4g}")
