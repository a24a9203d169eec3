"""Baselines learn from the data set's own preferences, beside a finished run and on its terms."""

from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import UsageError
from cyclealign.extras import require_extra
from flows.baseline import baseline
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger


@pytest.fixture
def source(trained: dict[str, Any]) -> str:
    """A finished run."""
    return str(trained["name"])


def column(home: Path, question: str) -> list[Any]:
    return answer(home, question)[0].iloc[:, 0].tolist()


@pytest.mark.parametrize("method", ["sft", "pro", "dpo", "rl"])
def test_a_baseline_takes_as_many_optimizer_steps_as_its_run_and_is_evaluated_like_it(
    home: Path, source: str, method: Any
) -> None:
    if method in {"dpo", "rl"}:
        pytest.importorskip("trl")
    ended = baseline(source=source, method=method, run=f"whole-{method}")
    assert ended["state"] == "complete"
    budget = column(home, "select max(optimizer_step) + 1 from rounds where run_name = 'whole'")[0]
    steps = column(home, f"select optimizer_step from optimizer_steps where run_name = 'whole-{method}' order by 1")
    assert steps == list(range(budget))
    assert (ended["step"], ended["steps"]) == (budget, budget)
    row = runs.get(Ledger(home), f"whole-{method}")
    assert (row.kind, row.baseline, row.source_run) == ("baseline", method, source)
    systems = "select system_id from run_systems where role = 'before' and run_name in ('whole', 'whole-{}')"
    assert len(set(column(home, systems.format(method)))) == 1
    assert (home / f"whole-{method}" / "report" / "report.html").is_file()


def test_a_missing_extra_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(UsageError, match=r"pip install .*'\.\[baselines\]'"):
        require_extra("a_package_that_nobody_has", "baselines")


def test_a_baseline_of_a_baseline_is_refused(home: Path, source: str) -> None:
    baseline(source=source, method="sft", run="whole-sft")
    with pytest.raises(UsageError, match="no trained rounds"):
        baseline(source="whole-sft", method="pro", run="never")


def test_trl_does_not_train_a_quantised_model(home: Path, source: str) -> None:
    nf4 = {"white_box": {"quantization": "nf4"}}
    with pytest.raises(UsageError, match=r"to bfloat16\. Expected float32.*quantization = none"):
        baseline(source=source, method="dpo", run="never", overrides=nf4)
    assert baseline(source=source, method="sft", run="whole-sft-nf4", overrides=nf4)["state"] == "complete"
