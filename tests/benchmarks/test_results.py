"""What is written, what is shown, and which scripts are run."""

import inspect
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import results
from benchmarks.__main__ import SCRIPTS, Script, chosen, measure, name_of
from benchmarks.rows import Row, at_least, at_most

KEPT = {"name": "kept", "ratio": 2.0, "commit": "old"}


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_every_script_gives_rows_for_a_number_of_repeats_and_has_its_own_number(script: Script) -> None:
    parameter = inspect.signature(script.rows).parameters["repeats"]
    assert isinstance(parameter.default, int)
    assert parameter.default > 0


def test_every_script_says_in_its_first_line_what_it_measures() -> None:
    assert all(inspect.getdoc(script) for script in SCRIPTS)
    assert len({name_of(script) for script in SCRIPTS}) == len(SCRIPTS)


def test_scripts_get_the_repeats_that_were_asked_for_and_otherwise_choose() -> None:
    class Counting:
        __name__ = "benchmarks.counting"

        def rows(self, repeats: int = 7) -> list[Row]:
            return [Row("repeats", at_least(1), (float(repeats),))]

    assert [rows[0].ratio for asked in (None, 2) for rows in measure([Counting()], asked)] == [7.0, 2.0]


def test_all_scripts_are_run_but_the_long_ones_which_have_to_be_named() -> None:
    assert "chaos" not in map(name_of, chosen([]))
    assert [name_of(script) for script in chosen(["chaos", "gpu_round"])] == ["gpu_round", "chaos"]
    assert len(chosen([])) == len(SCRIPTS) - 1


def test_the_file_is_a_list_of_rows_that_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.read(path) == []
    results.write([KEPT], path)
    assert json.loads(path.read_text()) == results.read(path) == [KEPT]
    assert list(tmp_path.iterdir()) == [path]


def test_a_measured_row_takes_the_place_of_the_known_one_and_leaves_the_others() -> None:
    again, new = {"name": "again", "commit": "new"}, {"name": "new", "commit": "new"}
    known = [{"name": "again", "commit": "old"}, KEPT]
    assert results.merged(known, [new, again]) == [again, KEPT, new]


def test_every_row_carries_commit_versions_machine_and_time() -> None:
    stamp = results.provenance()
    assert set(stamp) == {"commit", "package_versions", "machine", "measured_at"}
    assert "duckdb" in stamp["package_versions"]
    json.dumps(stamp)


@pytest.mark.skipif(not results.PATH.exists(), reason="nothing was measured yet")
def test_the_rows_in_the_repository_have_the_form_that_is_written_now() -> None:
    for record in results.read():
        assert {"name", "ratio", "low", "high", "repeats", "commit", "package_versions", "machine"} <= set(record)
        assert ("at_least" in record) != ("at_most" in record)


def test_the_table_marks_what_was_missed_and_what_was_not_measured() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(
        results.table(
            [
                Row("cheap", at_most(0.1), (0.05,), note="as it should be"),
                Row("slow", at_most(40.0), (50.0, 52.0), unit="ms"),
                Row("on a GPU", at_least(2.0), note="no GPU here"),
            ]
        )
    )
    lines = console.export_text().splitlines()
    cheap, slow, gpu = (next(line for line in lines if name in line) for name in ("cheap", "slow", "on a GPU"))
    assert "ok" in cheap
    assert "missed" in slow
    assert "at most 40 ms" in slow
    assert "50 … 52" in slow
    assert "not measured" in gpu
