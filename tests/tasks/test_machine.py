"""A run that continues computes with what it began with, or says what is different."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from storage.runs import Run
from tasks.machine import computing_as_before, git_commit, machine, package_versions


def began(commit: str | None = None, changes: dict[str, Any] | None = None, **packages: str) -> Run:
    """A run that was registered here, but for these changes."""
    there = {"machine": {**machine(), **(changes or {})}, "package_versions": {**package_versions(), **packages}}
    return cast(Run, SimpleNamespace(run_name="r", git_commit=commit or git_commit(), **there))


def test_the_number_of_threads_is_that_of_the_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    there = torch.get_num_threads()
    with computing_as_before(began(changes={"threads": there + 1}), ranks=1):
        assert torch.get_num_threads() == there + 1
    assert torch.get_num_threads() == there
    assert f"Threads: {there + 1}" in capsys.readouterr().err


def test_what_is_different_is_named_where_it_can_move_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = began("0123abc", {"instructions": "NEON", "cores": 99, "ranks": 2}, torch="1.0", openai="0.1")
    with computing_as_before(elsewhere, ranks=1):
        pass
    said = capsys.readouterr().err
    for word in ("code (0123abc → ", "instructions (NEON → ", "torch (1.0 → ", "ranks (2 → 1)"):
        assert word in said
    assert "cores" not in said
    assert "openai" not in said


def test_on_the_same_machine_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with computing_as_before(began(), ranks=1):
        pass
    assert capsys.readouterr().err == ""
