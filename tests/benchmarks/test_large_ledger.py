"""A multiplied ledger is one that the application reads: more runs, more rounds, keys of their own."""

from pathlib import Path

from benchmarks.large_ledger import multiply
from storage import rounds, runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.storage.values import new_run, ranked, sampled


def test_every_copy_of_a_run_has_its_rounds_at_steps_of_its_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    runs.register(ledger, new_run("benchmark"))
    for step in (0, 1):
        rounds.record_sampled(ledger, "benchmark", [sampled(step)])
        rounds.record_ranked(ledger, "benchmark", [ranked(step, number=step + 1)])
    ledger.close()
    multiply(ledger.path, rounds=18, runs=3)
    found, _ = answer(
        tmp_path,
        "select run_name, count(*) as rounds, count(distinct step) as steps, count(distinct call_key) as calls"
        " from rounds group by run_name order by run_name",
    )
    assert found.to_numpy().tolist() == [[f"benchmark-{copy}", 6, 6, 6] for copy in (1, 2, 3)]
    assert list(rounds.recorded(ledger, "benchmark-2", 1000, 1010)) == [(1000, 1), (1001, 1)]
    history, _ = answer(tmp_path, "prompt_history run_name=benchmark-3 prompt_id=p1")
    assert len(history) == 3 * (3 + 1)  # three stretches; three candidates and a rewrite
    assert list(answer(tmp_path, "select seed from runs")[0]["seed"]) == [7, 7, 7]
    seeds, _ = answer(tmp_path, "select distinct settings ->> '$.seed' as seed from runs order by seed")
    assert list(seeds["seed"]) == ["1", "2", "3"]
