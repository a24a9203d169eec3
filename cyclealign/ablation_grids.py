"""Grids of runs that differ in one choice of the method: which cells there are, and what each is called.

A cell's name tells everything in which cells differ, so that grids share the cells they have in common and the same
command finds its finished runs again. Called by `flows.ablation`; leaves out running them. Paper: Section 4.3, 4.4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cyclealign.settings import MethodSettings

Grid = Literal["table-4", "figure-5", "controls"]
Objective = Literal["rrhf", "pro"]
MOST_ROUNDS = 7
"""Figure 5 varies N from 1 to 7."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The choices in which the cells of all grids differ."""

    objective: Literal["rrhf", "pro", "none"]
    icl: Literal["full", "static", "off"]
    rewrite: Literal["head", "sft_only", "off"]
    rounds: int

    @classmethod
    def of(cls, method: MethodSettings) -> "Variant":
        """That of a profile."""
        return cls(method.objective, method.icl, method.rewrite, method.rounds)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid."""

    run_name: str
    overrides: dict[str, Any]
    """Nested, to be laid over the profile and the grid's own overrides."""


def cells(profile: str, grid: Grid, base: Variant, objectives: Sequence[Objective], seeds: Sequence[int]) -> list[Cell]:
    """The runs of a grid, all variants of a seed before the next seed, so that early stops leave whole seeds.

    Args:
        profile: Its name begins the names of the runs.
        grid: `table-4`: demonstrations full, static, off; `figure-5`: N = 1 to 7; `controls`: the whole method, SFT on
            the rewrites alone, ranking without a rewrite.
        base: What the profile does.
        objectives: L_rank; each gives a grid of its own.
        seeds: Each gives all variants.
    """
    wanted = [one for objective in objectives for one in variants(grid, replace(base, objective=objective))]
    return [_cell(profile, one, seed) for seed in seeds for one in dict.fromkeys(wanted)]


def variants(grid: Grid, base: Variant) -> Iterable[Variant]:
    """The variants of one grid under one objective."""
    if grid == "table-4":
        return [replace(base, icl=icl) for icl in ("full", "static", "off")]
    if grid == "figure-5":
        return [replace(base, rounds=rounds) for rounds in range(1, MOST_ROUNDS + 1)]
    return [base, replace(base, objective="none"), replace(base, rewrite="off")]


def _cell(profile: str, variant: Variant, seed: int) -> Cell:
    rewrite = variant.rewrite.replace("_", "-")
    name = f"{profile}-{variant.objective}-icl-{variant.icl}-rewrite-{rewrite}-n{variant.rounds}-seed{seed}"
    method = {"objective": variant.objective, "icl": variant.icl, "rewrite": variant.rewrite, "rounds": variant.rounds}
    return Cell(name, {"seed": seed, "method": method})
