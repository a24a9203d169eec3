"""A run that continues computes with what it began with, or says what is different."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from storage.runs import Run
from tasks.machine import computing_as_before, git_commit, machine, package_versions


def began(changes: Mapping[str, Any] | None = None, packages: Mapping[str, str] | None = None) -> Run:
    """A run that was registered here, but for these changes."""
    row = SimpleNamespace(
        run_name="r",
        git_commit=git_commit(),
        machine={**machine(), **(changes or {})},
        package_versions={**package_versions(), **(packages or {})},
    )
    return cast(Run, row)


def test_the_number_of_threads_is_that_of_the_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    there = torch.get_num_threads()
    with computing_as_before(began({"threads": there + 1}), ranks=1):
        assert torch.get_num_threads() == there + 1
    assert torch.get_num_threads() == there
    assert f"Threads: {there + 1}" in capsys.readouterr().err


def test_on_the_same_machine_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with computing_as_before(began(), ranks=1):
        pass
    assert capsys.readouterr().err == ""


def test_another_processor_and_another_torch_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with computing_as_before(
        began({"instructions": "NEON", "cores": 99}, {"torch": "1.0", "bitsandbytes": "0.1", "openai": "0.1"}), ranks=1
    ):
        pass
    said = capsys.readouterr().err
    assert "instructions (NEON → " in said
    assert "torch (1.0 → " in said
    assert "bitsandbytes (0.1 → " in said
    assert "cores" not in said
    assert "openai" not in said


def test_runs_of_before_these_were_recorded_continue(capsys: pytest.CaptureFixture[str]) -> None:
    row = SimpleNamespace(run_name="r", git_commit=git_commit(), machine={}, package_versions={})
    with computing_as_before(cast(Run, row), ranks=1):
        pass
    assert capsys.readouterr().err == ""


def test_another_number_of_ranks_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with computing_as_before(began({"ranks": 2}), ranks=1):
        pass
    assert "ranks (2 → 1)" in capsys.readouterr().err


def test_other_code_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    row = SimpleNamespace(run_name="r", git_commit="0123abc", machine={}, package_versions={})
    with computing_as_before(cast(Run, row), ranks=1):
        pass
    assert "code (0123abc → " in capsys.readouterr().err
