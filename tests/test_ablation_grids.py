"""Grids: which runs there are, and that their names tell them apart."""

from dataclasses import replace

import pytest

from cyclealign.ablation_grids import Cell, Variant, cells
from cyclealign.settings import MethodSettings
from tasks.context import RUN_NAME, load_settings

BASE = Variant.of(MethodSettings())


def methods(found: list[Cell], key: str) -> list[object]:
    return [cell.overrides["method"][key] for cell in found]


def test_table_4_takes_away_demonstrations() -> None:
    found = cells("laptop", "table-4", BASE, ("pro",), (0,))
    assert methods(found, "icl") == ["full", "static", "off"]


def test_figure_5_goes_from_one_round_to_seven() -> None:
    assert methods(cells("laptop", "figure-5", BASE, ("pro",), (0,)), "rounds") == [1, 2, 3, 4, 5, 6, 7]


def test_the_controls_train_without_a_ranking_term_and_without_a_rewrite() -> None:
    found = cells("laptop", "controls", BASE, ("pro", "rrhf"), (0,))
    pairs = list(zip(methods(found, "objective"), methods(found, "rewrite"), strict=True))
    assert pairs == [("pro", "head"), ("none", "head"), ("pro", "off"), ("rrhf", "head"), ("rrhf", "off")]


def test_a_seed_is_done_before_the_next_begins() -> None:
    found = cells("laptop", "table-4", BASE, ("pro", "rrhf"), (3, 4))
    assert [cell.overrides["seed"] for cell in found] == [3] * 6 + [4] * 6


def test_grids_share_the_cells_they_have_in_common() -> None:
    shared = [{cell.run_name for cell in cells("laptop", grid, BASE, ("pro",), (0,))} for grid in
              ("table-4", "figure-5", "controls")]  # fmt: skip
    assert shared[0] & shared[1] & shared[2] == {"laptop-pro-icl-full-rewrite-head-n5-seed0"}


@pytest.mark.parametrize("grid", ["table-4", "figure-5", "controls"])
def test_every_cell_is_a_run_of_valid_settings_under_a_name_of_its_own(grid: str) -> None:
    base = replace(BASE, rewrite="sft_only")
    found = cells("hh-rlhf-smollm2", grid, base, ("pro", "rrhf"), (0, 1))  # type: ignore[arg-type]
    assert len({cell.run_name for cell in found}) == len(found)
    for cell in found:
        assert RUN_NAME.fullmatch(cell.run_name)
        assert load_settings("laptop", cell.overrides).seed == cell.overrides["seed"]
