"""Runs: registering, claiming, ending, and where they stand."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from cyclealign.errors import RunUnknown, SettingsChanged, UsageError
from storage import calls, checkpoints, runs, samples
from storage.ledger import Ledger
from tests.storage.conftest import RunScript
from tests.storage.test_calls import call_of
from tests.storage.values import new_run, ranked, sampled, settings, trained, unranked

HOLD = """
    import sys
    from pathlib import Path
    from storage import runs
    from storage.ledger import Ledger
    ledger = Ledger(Path(sys.argv[1]))
    with runs.held(ledger, "a-run"):
        runs.begin(ledger, "a-run")
        print("held", flush=True)
        sys.stdin.readline()
    """


def test_registering_makes_a_run_once_and_finds_it_afterwards(ledger: Ledger) -> None:
    assert [runs.register(ledger, new_run()) for _ in range(2)] == [True, False]
    assert runs.get(ledger, "a-run").settings == settings(rounds=2).influential()
    assert runs.get(ledger, "a-run").package_versions == {"torch": "2.13.0"}


def test_other_settings_under_the_same_name_are_refused_with_the_differences(ledger: Ledger) -> None:
    runs.register(ledger, new_run(rounds=2))
    with pytest.raises(SettingsChanged, match=r"method\.rounds: 2 -> 5"):
        runs.register(ledger, new_run(rounds=5))


def test_a_run_that_ended_before_anything_was_computed_gives_its_name_up(ledger: Ledger) -> None:
    runs.register(ledger, new_run(rounds=2))
    samples.use(ledger, "a-run", "training", "a-digest")
    runs.fail(ledger, "a-run", "no such folder")
    assert runs.register(ledger, new_run(rounds=5))
    assert runs.get(ledger, "a-run").settings == settings(rounds=5).influential()
    assert samples.of_run(ledger, "a-run", "training") is None
    ledger.record(sampled(0))
    runs.fail(ledger, "a-run", "something else")
    with pytest.raises(SettingsChanged, match=r"method\.rounds: 5 -> 2"):
        runs.register(ledger, new_run(rounds=2))


def test_an_unknown_run_is_told_with_the_known_ones(ledger: Ledger) -> None:
    runs.register(ledger, new_run("one"))
    runs.register(ledger, new_run("two"))
    for ask in (runs.get, runs.status):
        with pytest.raises(RunUnknown, match=r"No run 'three'.*Runs there: one, two"):
            ask(ledger, "three")


def test_a_new_run_is_interrupted_until_a_process_holds_it(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    assert runs.status(ledger)[0].state == "interrupted"
    with runs.held(ledger, "a-run"):
        runs.begin(ledger, "a-run")
        assert runs.status(ledger)[0].state == "running"
    assert runs.status(ledger)[0].state == "interrupted"


def test_a_run_of_a_living_process_cannot_be_worked_on_and_one_of_a_dead_process_can(
    ledger: Ledger, script: RunScript
) -> None:
    runs.register(ledger, new_run())
    ledger.close()
    other = script(HOLD, ledger.home)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match=f"being run by process {other.pid}"), runs.held(ledger, "a-run"):
        pass
    assert runs.status(ledger)[0].state == "running"
    other.kill()
    other.wait()
    assert runs.status(ledger)[0].state == "interrupted"
    with runs.held(ledger, "a-run"):
        runs.begin(ledger, "a-run")
    assert ledger.query("select process_id from runs")["process_id"].tolist() == [os.getpid()]


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        (lambda ledger: runs.finish(ledger, "a-run"), "complete", None),
        (lambda ledger: runs.pause(ledger, "a-run", "quota"), "paused", "quota"),
        (lambda ledger: runs.fail(ledger, "a-run", "loss is nan"), "failed", "loss is nan"),
    ],
    ids=["finish", "pause", "fail"],
)
def test_how_a_run_ended_is_kept(ledger: Ledger, end, state: str, reason: str | None) -> None:  # type: ignore[no-untyped-def]
    runs.register(ledger, new_run())
    runs.begin(ledger, "a-run")
    end(ledger)
    found = runs.status(ledger, "a-run")[0]
    assert (found.state, found.state_reason) == (state, reason)
    runs.begin(ledger, "a-run")
    assert runs.status(ledger, "a-run")[0].state_reason is None


def test_status_counts_steps_rounds_spend_agreement_and_names_the_weights(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    ledger.record(sampled(0), sampled(1))
    ledger.record(ranked(0), unranked(1))
    ledger.record(trained(0))
    ledger.record(sampled(0, 2), sampled(1, 2))
    ledger.record(ranked(0, 2), unranked(1, 2))
    attempt = calls.begin_attempt(ledger, call_of("0.5"), cap=None)
    calls.fail_attempt(ledger, attempt, "timeout", cost_usd=Decimal("0.25"))
    before = runs.status(ledger, "a-run")[0]
    assert (before.step, before.steps, before.rounds) == (1, 4, 4)  # step 1 ended unranked; step 0 is not trained on
    assert before.spend_usd == Decimal("0.25")
    assert before.agreement == pytest.approx(2 / 3)
    ledger.record(trained(0, 2))
    checkpoints.write(ledger, "a-run", 2, 2, "sha-of-checkpoint", lambda _: None)
    after = runs.status(ledger, "a-run")[0]
    assert (after.step, after.weights_sha256, after.adapter_path) == (2, "sha-of-checkpoint", None)
    runs.record_adapter(ledger, "a-run", Path("somewhere"), "sha-of-adapter")
    runs.record_estimate(ledger, "a-run", {"usd": 1.5})
    last = runs.status(ledger, "a-run")[0]
    assert (last.weights_sha256, last.adapter_path) == ("sha-of-adapter", "somewhere")
    assert runs.get(ledger, "a-run").estimate == {"usd": 1.5}
