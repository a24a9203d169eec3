"""Doctor: everything that a profile needs is looked at before anything is spent, and what to do is said."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cyclealign.settings import Settings
from tasks.context import load_settings
from tasks.doctor import Finding, examine
from tests.black_box.model_server import ModelServer
from tests.serving import serving

KEY = "sk-canary-9f2e7c1a0b3d"
KEY_FOUND, MODEL_FOUND = "black box, key", "black box, model"
LISTED = {"object": "list", "data": [{"id": "some-model"}, {"id": "another"}]}


class Listing(ModelServer):
    """Answers the question for its models where the key is right, and counts what was asked."""

    status, answer = 200, ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/models"):
            await super().__call__(scope, receive, send)
            return
        key = dict(scope["headers"]).get(b"authorization", b"").decode()
        wrong = JSONResponse({"error": {"message": f"wrong key {key}"}}, 401)
        listed = Response(self.answer, self.status, media_type="application/json")
        await (listed if key == f"Bearer {KEY}" else wrong)(scope, receive, send)


@pytest.fixture(scope="module")
def running() -> Iterator[Listing]:
    with serving(Listing()) as server:
        yield server


@pytest.fixture
def server(running: Listing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Listing:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    running.status, running.answer = 200, json.dumps(LISTED)
    return running


def settings(**changes: Any) -> Settings:
    return load_settings("laptop", changes)


def asking(server: Listing, model: str = "some-model") -> Settings:
    price = {"input": 1.0, "output": 1.0}
    return settings(black_box={"endpoint": "api", "model": model, "price": price, "base_url": server.url})


def found(settings: Settings, what: str) -> Finding:
    (one,) = [one for one in examine(settings) if one.what == what]
    return one


def bad(settings: Settings) -> set[str]:
    return {one.what for one in examine(settings) if one.bad}


def test_a_key_that_the_endpoint_takes_and_a_model_that_it_serves_are_in_order(server: Listing) -> None:
    assert bad(asking(server)) == set()
    assert found(asking(server), KEY_FOUND).found == "the endpoint takes it"
    assert server.requests == []  # no chat completion: nothing was spent


def test_a_key_that_the_endpoint_refuses_is_bad_and_is_not_repeated(
    server: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-4c8d1e7f")
    one = found(asking(server), KEY_FOUND)
    assert (one.bad, one.found) == (True, "the endpoint refuses the key (HTTP 401)")
    assert "OPENAI_API_KEY" in one.todo
    assert "sk-wrong" not in "".join(finding.line() for finding in examine(asking(server)))


FORMS = {
    "bare": [{"id": "some-model"}],
    "with a folder": {"data": [{"id": "models/some-model"}]},
    "with others that are no models": {"data": [None, {"id": 3}, {"name": "x"}, {"id": "some-model"}]},
}


@pytest.mark.parametrize("answer", FORMS.values(), ids=FORMS)
def test_a_list_may_have_several_forms_and_lack_the_model(server: Listing, answer: object) -> None:
    server.answer = json.dumps(answer)
    assert found(asking(server), MODEL_FOUND).line() == "ok   black box, model: some-model"
    one = found(asking(server, "some-modle"), MODEL_FOUND)
    assert one.line().startswith("note black box, model: some-modle is not listed by the endpoint")
    assert "some-model" in one.todo


NO_LISTS = {
    "no route": (404, "{}"),
    "another method": (405, "{}"),
    "a page": (200, "<html>"),
    "null": (200, "null"),
    "null for data": (200, '{"data": null}'),
    "none": (200, '{"data": []}'),
}


@pytest.mark.parametrize("answer", NO_LISTS.values(), ids=NO_LISTS)
def test_an_endpoint_without_a_list_cannot_be_tried_for_free(server: Listing, answer: tuple[int, str]) -> None:
    server.status, server.answer = answer
    assert "cannot be tried without a paid call" in found(asking(server), KEY_FOUND).found
    assert bad(asking(server)) == set()


@pytest.mark.parametrize("status", [403, 429, 503])
def test_only_a_failure_that_is_about_the_key_or_the_account_is_bad(server: Listing, status: int) -> None:
    server.status, server.answer = status, '{"error": {"message": "Missing scopes: api.model.read"}}'
    one = found(asking(server), KEY_FOUND)
    assert one.line().startswith("note black box, key: OPENAI_API_KEY is set, but could not be tried")
    assert f"HTTP {status}" in one.todo
    server.status, server.answer = 429, '{"error": {"message": "no", "code": "insufficient_quota"}}'
    assert bad(asking(server)) == {KEY_FOUND}


def test_the_pairwise_judge_is_looked_at_like_the_black_box(server: Listing) -> None:
    judge = {"base_url": server.url, "model": "unheard-of", "budget_usd": 1}
    pairwise = settings(evaluation={"judge": {"endpoint": judge}})
    assert bad(pairwise) == {"pairwise judge, price"}
    assert found(pairwise, "pairwise judge, model").todo
    gone = settings(evaluation={"judge": {"endpoint": {**judge, "base_url": "http://127.0.0.1:9/v1"}}})
    assert "pairwise judge, endpoint" in bad(gone)


def test_a_cpu_is_enough_for_a_small_model_whatever_its_name_says(server: Listing, tmp_path: Path) -> None:
    folder, broken = tmp_path / "llama-70b", tmp_path / "mine"
    folder.mkdir(), broken.mkdir()
    save_file({"weight": torch.zeros(3, 4)}, folder / "model.safetensors")
    (broken / "model.safetensors").write_bytes(b"{}")
    small, large, unknown = (
        found(settings(white_box={"model": str(model)}), "GPU") for model in (folder, "somebody/llama-70b", broken)
    )
    assert (small.bad, large.bad, unknown.bad) == (False, True, False)
    assert "70,000M parameters" in large.found
    assert "is not known" in unknown.todo


MISSING: dict[str, dict[str, Any]] = {
    "reward model": {"evaluation": {"reward_model": "classifier", "reward_model_name": "./nowhere"}},
    "preference models read": {"evaluation": {"reward_model": "preference"}, "preference": {"model": "./nowhere"}},
}


@pytest.mark.parametrize("what", MISSING)
def test_models_that_are_not_there_are_bad(server: Listing, what: str) -> None:
    one = found(settings(**MISSING[what]), what)
    assert one.bad
    assert "nowhere" in one.found + one.todo


def test_ranks_are_looked_at_where_there_is_more_than_one(server: Listing) -> None:
    def about(**training: int) -> list[str]:
        examined = examine(settings(training=training, white_box={"device": "cpu"}))
        return [one.line() for one in examined if one.what == "ranks"]

    assert about() == []
    assert about(ranks=2, wave=2, prompts_per_optimizer_step=3) == ["ok   ranks: 2 on the CPU"]
    assert "3 have no example of an optimizer step" in about(ranks=4, prompts_per_optimizer_step=1)[0]


def test_quantisation_needs_its_extra(server: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = settings(white_box={"quantization": "nf4"})
    assert found(quantised, "quantization").line().startswith("ok   quantization: nf4, bitsandbytes 0.")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as Python marks what cannot be imported
    one = found(quantised, "quantization")
    assert one.bad
    assert "pip install" in one.todo
    assert "[quantization]" in one.todo
