"""What continuing a run replays is counted, by the flow itself, and computed as the run began."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cyclealign.errors import EndpointRefused
from cyclealign.profiles import merge
from flows.train import train
from storage.asking import answer
from tasks.context import holding
from tasks.evaluation.systems import evaluated_run
from tests.flows.conftest import SMALL
from tests.flows.judge_server import JudgeServer

RUN = "continued"
FEW = merge(SMALL, {"data": {"prompts": 8}, "evaluation": {"prompts_per_subset": 1}})
RANKED = f"select count(*), count(distinct optimizer_step) from rounds where run_name = '{RUN}' and state <> 'sampled'"


def rows(home: Path, question: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in answer(home, question).itertuples(index=False)]


def test_continuing_counts_the_rounds_that_it_replays_and_computes_with_the_threads_that_the_run_began_with(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = torch.get_num_threads()
    with JudgeServer(home, FEW) as judge:
        black_box = {"endpoint": "api", "base_url": judge.url, "price": {"input": 1.0, "output": 2.0}}
        settings = merge(FEW, {"seed": 11, "black_box": black_box})
        judge.refuse_after(6)  # four are the first round of the first wave; its second round is cut short
        torch.set_num_threads(here + 1)
        try:
            with pytest.raises(EndpointRefused):
                train(profile="laptop", overrides=settings, run=RUN)
        finally:
            torch.set_num_threads(here)
        assert rows(home, f"resumptions run_name={RUN}") == []
        ((ranked, optimizer_steps),) = rows(home, RANKED)
        judge.accept()
        capsys.readouterr()
        train(profile="laptop", overrides=settings, run=RUN)
        assert f"Threads: {here + 1}, with which run {RUN} began" in capsys.readouterr().err
        assert torch.get_num_threads() == here
    ((_, number, *_, checkpoint, replayed, steps, seconds, first_new),) = rows(home, f"resumptions run_name={RUN}")
    assert (number, checkpoint, replayed, steps) == (1, 0, ranked, optimizer_steps)
    assert (ranked, optimizer_steps) == (4, 2)
    assert seconds > 0
    assert 0 <= first_new < 4
    with holding(evaluated_run(RUN, {})):  # as an evaluation does
        assert torch.get_num_threads() == here + 1
