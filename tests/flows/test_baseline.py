"""Baselines learn from the data set's own preferences, beside a finished run and on its terms."""

from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import UsageError
from cyclealign.extras import require_extra
from flows.baseline import baseline
from flows.evaluation import evaluate
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.flows.remains import forget


def column(home: Path, question: str) -> list[Any]:
    return answer(home, question).iloc[:, 0].tolist()


@pytest.mark.parametrize("method", ["pro", "dpo", "rl"])
def test_a_baseline_takes_as_many_optimizer_steps_as_its_run_and_is_evaluated_like_it(whole: Path, method: Any) -> None:
    if method in {"dpo", "rl"}:
        pytest.importorskip("trl")
    ended = baseline(source="whole", method=method, run=f"whole-{method}")
    assert ended["state"] == "complete"
    budget = column(whole, "select max(optimizer_step) + 1 from rounds where run_name = 'whole'")[0]
    steps = column(whole, f"select optimizer_step from optimizer_steps where run_name = 'whole-{method}' order by 1")
    assert steps == list(range(budget))
    assert (ended["step"], ended["steps"]) == (budget, budget)
    row = runs.get(Ledger(whole), f"whole-{method}")
    assert (row.kind, row.baseline, row.source_run) == ("baseline", method, "whole")
    systems = "select system_id from run_systems where role = 'before' and run_name in ('whole', 'whole-{}')"
    assert len(set(column(whole, systems.format(method)))) == 1
    assert (whole / f"whole-{method}" / "report" / "report.html").is_file()


def test_a_missing_extra_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(UsageError, match=r"pip install .*'\.\[baselines\]'"):
        require_extra("a_package_that_nobody_has", "baselines")


def test_a_quantised_run_is_a_system_of_its_own_is_evaluated_again_alike_and_trl_does_not_train_it(whole: Path) -> None:
    nf4 = {"white_box": {"quantization": "nf4"}}
    with pytest.raises(UsageError, match=r"to bfloat16\. Expected float32.*quantization = none"):
        baseline(source="whole", method="dpo", run="never", overrides=nf4)
    assert baseline(source="whole", method="sft", run="nf4", overrides=nf4)["state"] == "complete"
    systems = (
        "select distinct system_id from run_systems where run_name in ('whole', 'nf4') and role in ('before', 'after')"
    )
    assert len(column(whole, systems)) == 4  # each before and after
    texts = (
        "select prompt_id, role, text from generations join run_systems using (system_id)"
        " where run_name = 'nf4' order by all"
    )
    before = answer(whole, texts)
    assert len(before) == 2 * 8
    systems = "select system_id from run_systems where run_name = 'nf4'"
    forget(whole, f"delete from generations where system_id in ({systems})")
    evaluate(run="nf4")
    assert answer(whole, texts).equals(before)
    with pytest.raises(UsageError, match="no trained rounds"):
        baseline(source="nf4", method="pro", run="never")
