"""Grids: which runs there are, that their names tell them apart, and what workers need to do them."""

import os
from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import UsageError
from tasks.context import RUN_NAME, load_settings
from tasks.studies.grids import Cell, cells, prepare_home, require_server


def methods(found: list[Cell], key: str) -> list[object]:
    return [cell.parameters["overrides"]["method"][key] for cell in found]


def test_table_4_takes_away_demonstrations_a_seed_after_the_other_and_figure_5_goes_from_one_round_to_seven() -> None:
    found = cells("laptop", "table-4", {}, ("pro",), (3, 4))
    assert methods(found, "icl") == ["full", "static", "off"] * 2
    assert [cell.parameters["overrides"]["seed"] for cell in found] == [3] * 3 + [4] * 3
    assert methods(cells("laptop", "figure-5", {}, ("pro",), (0,)), "rounds") == [1, 2, 3, 4, 5, 6, 7]


def test_the_controls_train_without_a_ranking_term_and_without_a_rewrite() -> None:
    found = cells("laptop", "controls", {}, ("pro", "rrhf"), (0,))
    pairs = list(zip(methods(found, "objective"), methods(found, "rewrite"), strict=True))
    assert pairs == [("pro", "head"), ("none", "head"), ("pro", "off"), ("rrhf", "head"), ("rrhf", "off")]


def test_grids_share_the_cells_they_have_in_common() -> None:
    five = {"method": {"rounds": 5}}
    shared = [{cell.run_name for cell in cells("laptop", grid, five, ("pro",), (0,))} for grid in
              ("table-4", "figure-5", "controls")]  # fmt: skip
    assert shared[0] & shared[1] & shared[2] == {"laptop-pro-icl-full-rewrite-head-n5-seed0"}


@pytest.mark.parametrize("grid", ["table-4", "figure-5", "controls"])
def test_every_cell_is_a_run_of_valid_settings_under_a_name_of_its_own(grid: Any) -> None:
    laid_over = {"method": {"rewrite": "sft_only"}, "data": {"prompts": 7}}
    found = cells("hh-rlhf-smollm2", grid, laid_over, ("pro", "rrhf"), (0, 1))
    assert len({cell.run_name for cell in found}) == len(found)
    for cell in found:
        assert RUN_NAME.fullmatch(cell.run_name)
        settings = load_settings(cell.parameters["profile"], cell.parameters["overrides"])
        assert settings.data.prompts == 7
        assert f"n{settings.method.rounds}-seed{settings.seed}" in cell.run_name


def test_a_cells_home_shows_what_was_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    cell = Cell("a-cell", {})
    prepare_home(cell)
    (tmp_path / "models" / "a-model").mkdir()
    prepare_home(cell)
    assert (cell.home / "models" / "a-model").is_dir()
    assert not os.path.lexists(cell.home / "data")


def test_without_a_server_nothing_can_be_fanned_out() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(UsageError, match="make up"):
        require_server()
