"""Engines and ranks: ZeRO-2, ZeRO-3 and several processes give the numbers of one plain process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("training_run.py")
Results = dict[str, dict[str, Any]]
ROUNDED = ("torch-bf16", "zero-2-bf16", "zero-3-bf16")
"""In one process alone: two ranks make other passes, in which bfloat16 rounds otherwise."""


def run_program(tmp_path: Path, model: Path, name: str, *arguments: str, engines: tuple[str, ...]) -> Results:
    output = tmp_path / f"{name}.json"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments, str(SCRIPT), str(model), str(output), *engines]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    results: Results = json.loads(output.read_text())
    return results


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, module_tiny_llama: Path) -> dict[str, Results]:
    """All runs: one process without a launcher, and two gloo ranks on loopback under torchrun."""
    tmp_path = tmp_path_factory.mktemp("runs")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    every = ("torch", "zero-2", "zero-3", "torch-nf4", "zero-2-nf4", "zero-3-nf4")
    return {
        "alone": run_program(tmp_path, module_tiny_llama, "alone", engines=(*every, *ROUNDED)),
        "again": run_program(tmp_path, module_tiny_llama, "again", engines=("torch", "torch-nf4")),
        "two": run_program(tmp_path, module_tiny_llama, "two", *launcher, engines=every),
    }


CASES = [
    *[("alone", engine) for engine in ("zero-2", "zero-3", "zero-2-nf4", "zero-3-nf4", *ROUNDED[1:])],
    *[("two", engine) for engine in ("torch", "zero-2", "zero-3", "torch-nf4", "zero-2-nf4", "zero-3-nf4")],
]
IDS = [f"{engine}-{where}" for where, engine in CASES]


def alone_on_torch(runs: dict[str, Results], engine: str) -> dict[str, Any]:
    """What one plain process finds of the same model: quantised, in bfloat16 or neither."""
    return runs["alone"]["torch" + engine.removeprefix("torch").removeprefix("zero-2").removeprefix("zero-3")]


def room(engine: str) -> float:
    """By how much wider tolerances are: ZeRO-3 adds gradients up in another order, of which bfloat16 keeps 8 bits."""
    return 200.0 if engine == "zero-3-bf16" else 1.0


@pytest.mark.parametrize(("where", "engine"), CASES, ids=IDS)
def test_losses_and_gradients_are_those_of_one_plain_process(runs: dict[str, Results], where: str, engine: str) -> None:
    found, expected = runs[where][engine], alone_on_torch(runs, engine)
    assert found["ranks"] == (2 if where == "two" else 1)
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5 * room(engine))
    assert found["gradient_norms"] == pytest.approx(expected["gradient_norms"], rel=1e-4 * room(engine))
    for rows, wanted in zip(found["rank_losses"], expected["rank_losses"], strict=True):
        assert rows == pytest.approx(wanted, rel=1e-4 * room(engine), abs=1e-5 * room(engine))


@pytest.mark.parametrize(("where", "engine"), CASES, ids=IDS)
def test_ranks_share_sampling_and_scoring_and_agree_on_the_result(
    runs: dict[str, Results], where: str, engine: str
) -> None:
    found, expected = runs[where][engine], alone_on_torch(runs, engine)
    assert found["tokens"] == expected["tokens"]
    for values, wanted in zip(found["log_probabilities"], expected["log_probabilities"], strict=True):
        assert values == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("where", "engine"),
    [("alone", "torch"), ("alone", "torch-nf4"), ("alone", "torch-bf16"), *CASES],
    ids=["torch-alone", "torch-nf4-alone", "torch-bf16-alone", *IDS],
)
def test_every_engine_continues_from_its_checkpoint_bit_for_bit(
    runs: dict[str, Results], where: str, engine: str
) -> None:
    assert runs[where][engine]["resumed_weights"] == runs[where][engine]["weights"]


def test_a_process_without_a_launcher_listens_on_loopback_alone(runs: dict[str, Results]) -> None:
    for found in runs["alone"].values():
        assert set(found["listens_on"]) <= {"127.0.0.1", "::1"}


def test_two_fresh_processes_end_in_equal_bits(runs: dict[str, Results]) -> None:
    for engine, found in runs["again"].items():
        assert found["weights"] == runs["alone"][engine]["weights"]
