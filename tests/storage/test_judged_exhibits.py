"""Exhibits of comparisons tell what a reader must know of the judges, from the ledger alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from storage import evaluations, exhibits, runs, samples
from storage.comparisons import Comparison
from storage.evaluations import Generation, RunSystem, System
from storage.ledger import Ledger
from tests.storage.values import new_run, pair, settings

RANKER = settings().black_box.model
JUDGES = {"the ranker": f"{RANKER} (u, 1)", "the evaluator": "offline-evaluator:rm (u, 1)"}
PROMPT = pair("Question", split="test")


@pytest.fixture
def judged(ledger: Ledger) -> Ledger:
    """A run of the cycle and a baseline with the same two responses, which a person and two models compared."""
    run = new_run("cycle")
    samples.put(ledger, "s", "evaluation", "d", (PROMPT,))
    systems = [System(role, {"model": role}) for role in ("after", "before")]
    texts = [Generation(one.system_id, PROMPT.prompt.prompt_id, {}, one.label, 3, True, 0.0, 0.5) for one in systems]
    ledger.record(*texts)
    for one in (run, replace(run, run_name="sft", kind="baseline", baseline="sft", source_run="cycle")):
        runs.register(ledger, one)
        samples.use(ledger, one.run_name, "evaluation", "s")
        for system in systems:
            digest = evaluations.generation_digest({})
            ledger.record(system, RunSystem(one.run_name, system.label, system.system_id, digest))
    ids = [one.generation_id for one in texts]
    ledger.record(
        Comparison(*ids, "Ann", "person", "first"),
        *(Comparison(*ids, judge, "model", "first", None, "key") for judge in JUDGES.values()),
    )
    return ledger


@pytest.fixture(params=["table-2", "table-3"])
def table(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def notes(ledger: Ledger, table: str, *names: str) -> str:
    return "\n".join(exhibits.read_exhibit(ledger, table, names, {}).notes)


def test_a_judge_that_ranked_in_training_is_no_independent_evidence(judged: Ledger, table: str) -> None:
    said = notes(judged, table, "cycle")
    assert f"\n{RANKER} ranked during training and judges here as well" in said
    assert "no witness of its own" in said


def test_no_judge_ranked_in_the_training_of_a_baseline(judged: Ledger, table: str) -> None:
    said = notes(judged, table, "sft")
    assert "ranked during training and" not in said
    assert "no witness of its own" in said


def test_of_several_runs_those_are_named(judged: Ledger, table: str) -> None:
    for said in (notes(judged, table, "cycle", "sft"), notes(judged, table)):
        assert f"\nIn the evaluation of cycle: {RANKER} ranked during training" in said
        assert "\noffline-evaluator:rm is the evaluation's own reward model" in said
