"""The share's arithmetic, and that the stand-in for Prefect runs functions as they are."""

import subprocess
import sys

import pytest

from benchmarks.no_prefect import KNOWN, no_limit, nothing, undecorated
from benchmarks.prefect_share import ROOT, share_row

USE = """
from benchmarks import no_prefect
no_prefect.take_away()
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import StateType
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.runtime import task_run

@task(task_run_name="one", cache_policy=NO_CACHE)
def one() -> int:
    with concurrency("slot", occupy=1):
        return 1

@flow(name="a flow")
def two() -> int:
    create_markdown_artifact("text", key="report")
    return one() + 1

print(two(), FlowRunContext.get())
"""


def test_the_share_is_what_prefect_adds_of_the_whole() -> None:
    row = share_row([(100.0, 95.0), (110.0, 99.0), (100.0, 93.0)], {"a digest"})
    assert row.values == pytest.approx((0.05, 0.10, 0.07))
    assert not row.missed
    assert "100 s with, 95 s without" in (row.note or "")


def test_runs_that_end_with_different_weights_are_no_comparison() -> None:
    with pytest.raises(RuntimeError, match="expected the same with Prefect and without"):
        share_row([(100.0, 95.0)], {"a digest", "another"})


def test_without_prefect_flows_and_tasks_are_plain_functions() -> None:
    done = subprocess.run([sys.executable, "-c", USE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "2 None\n"


def test_prefect_cannot_be_taken_from_a_process_that_imported_it() -> None:
    code = "from benchmarks.no_prefect import take_away; take_away(); import prefect; take_away()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Found prefect imported already" in done.stderr


def test_the_stand_ins_do_what_they_stand_for() -> None:
    assert undecorated(nothing) is nothing
    assert undecorated(name="a task")(nothing) is nothing
    with no_limit("slot", occupy=1):
        assert KNOWN["prefect.context"]["FlowRunContext"].get() is None
