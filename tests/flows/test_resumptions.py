"""What continuing a run replayed is counted, by the flow itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cyclealign.errors import EndpointRefused
from cyclealign.profiles import merge
from flows.evaluation import evaluate
from flows.train import train
from storage.asking import answer
from tests.flows.conftest import SMALL
from tests.flows.judge_server import JudgeServer

RUN = "continued"
RANKED = f"select count(*), count(distinct optimizer_step) from rounds where run_name = '{RUN}' and state <> 'sampled'"


def rows(home: Path, question: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in answer(home, question).itertuples(index=False)]


def test_continuing_counts_the_rounds_that_it_replays_and_says_where_new_ones_begin(home: Path) -> None:
    with JudgeServer(home, SMALL) as judge:
        black_box = {"endpoint": "api", "base_url": judge.url, "price": {"input": 1.0, "output": 2.0}}
        settings = merge(SMALL, {"seed": 11, "black_box": black_box})
        judge.refuse_after(6)  # four are the first round of the first wave; its second round is cut short
        with pytest.raises(EndpointRefused):
            train(profile="laptop", overrides=settings, run=RUN)
        assert rows(home, f"resumptions run_name={RUN}") == []
        ((ranked, optimizer_steps),) = rows(home, RANKED)
        judge.accept()
        train(profile="laptop", overrides=settings, run=RUN)
    ((_, number, *_, checkpoint, replayed, steps, seconds, first_new),) = rows(home, f"resumptions run_name={RUN}")
    assert (number, checkpoint, replayed, steps) == (1, 0, ranked, optimizer_steps)
    assert (ranked, optimizer_steps) == (4, 2)
    assert seconds > 0
    assert 0 <= first_new < 4


def test_continuing_and_evaluating_take_the_number_of_threads_that_the_run_began_with(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = torch.get_num_threads()
    with JudgeServer(home, SMALL) as judge:
        black_box = {"endpoint": "api", "base_url": judge.url, "price": {"input": 1.0, "output": 2.0}}
        settings = merge(SMALL, {"seed": 12, "black_box": black_box})
        judge.refuse_after(6)
        torch.set_num_threads(here + 1)
        try:
            with pytest.raises(EndpointRefused):
                train(profile="laptop", overrides=settings, run="threads")
        finally:
            torch.set_num_threads(here)
        judge.accept()
        for go_on in (lambda: train(profile="laptop", overrides=settings, run="threads"), evaluate_it):
            capsys.readouterr()
            go_on()
            assert f"Threads: {here + 1}, with which run threads began" in capsys.readouterr().err
            assert torch.get_num_threads() == here


def evaluate_it() -> None:
    evaluate(run="threads")
