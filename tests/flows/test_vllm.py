"""Flows that sample on a vLLM server: a server that dies pauses the run, and another engine is another generation.

The stand-in draws as transformers does, so a run on it ends with the same weights; a real vLLM draws otherwise.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import EndpointRefused
from cyclealign.profiles import merge
from flows.evaluation import evaluate
from flows.train import train
from storage.asking import answer
from tasks.context import load_settings
from tasks.doctor import examine
from tests.flows.conftest import SMALL
from tests.serving import serving
from tests.white_box.vllm_standin import Standin

CANDIDATES = "select step, round, slot, text from responses where kind = 'candidate' and run_name = 'served'"


@pytest.fixture
def server(home: Path) -> Iterator[Standin]:
    """Serves the tiny white box of the world in this home, once it is there."""
    with serving(Standin(lambda: next((home / "world").glob("**/white-box")), root="/world/white-box")) as one:
        one.max_model_len = 4096
        yield one


def on(server: Standin, *parts: str) -> dict[str, Any]:
    """The small run, with these parts sampled by the server."""
    changed: dict[str, Any] = {"white_box": {"vllm": {"base_url": server.url}}}
    for part in parts:
        changed = merge(changed, {part: {"sampling": {"engine": "vllm"}}})
    return merge(SMALL, changed)


def told(home: Path, question: str) -> list[Any]:
    return answer(home, question).to_dict("records")


def test_a_server_that_dies_pauses_the_run_which_continues_with_all_that_was_recorded(
    home: Path, trained: dict[str, Any], server: Standin
) -> None:
    overrides = on(server, "white_box")
    server.lives = 10
    with pytest.raises(EndpointRefused, match=r"vLLM server .* does not answer .* The same command continues"):
        train(profile="laptop", overrides=overrides, run="served")
    (state,) = told(home, "select state from runs where run_name = 'served'")
    recorded = told(home, CANDIDATES)
    assert state["state"] == "paused"
    assert len(recorded) >= 4 * 3
    server.lives = 10**9
    served = train(profile="laptop", overrides=overrides, run="served")
    assert (served["state"], served["weights_sha256"]) == ("complete", trained["weights_sha256"])
    kept = {json.dumps(one) for one in told(home, CANDIDATES)}
    assert {json.dumps(one) for one in recorded} <= kept
    assert len(server.ever_loaded) > 3  # each turn after an optimizer step is sampled under another adapter


def test_an_evaluation_by_another_engine_reuses_no_generation(whole: Path, server: Standin) -> None:
    before = told(whole, "select count(*) as n from generations")[0]["n"]
    served = {"white_box": {"vllm": {"base_url": server.url}}, "evaluation": {"sampling": {"engine": "vllm"}}}
    evaluate(run="whole", overrides=served)
    assert told(whole, "select count(*) as n from generations")[0]["n"] == before + 2 * 8
    assert len(server.asked) == 2 * 8


def test_doctor_looks_at_the_server_where_a_profile_samples_there(home: Path, server: Standin) -> None:
    def found(overrides: dict[str, Any]) -> list[Any]:
        return [one for one in examine(load_settings("laptop", overrides)) if one.what == "vLLM server"]

    assert found(SMALL) == []
    (good,) = found(on(server, "evaluation"))
    assert good.line() == f"ok   vLLM server: {server.url} serves /world/white-box"
    server.root = "/models/llama"
    (bad,) = found(on(server, "white_box"))
    assert bad.bad
    assert "serves /models/llama, expected white-box" in bad.todo
