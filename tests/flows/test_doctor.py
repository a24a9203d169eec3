"""Doctor: everything that a profile needs is looked at before anything is spent, and what to do is said."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cyclealign.settings import Settings
from tasks.context import load_settings
from tasks.doctor import examine
from tasks.doctor_models import stored_parameters
from tasks.findings import Finding
from tests.black_box.model_server import ModelServer
from tests.serving import serving

KEY = "sk-canary-9f2e7c1a0b3d"
PAID = {"black_box": {"endpoint": "api", "model": "some-model", "price": {"input": 1.0, "output": 1.0}}}


LISTED = [{"id": "some-model"}, {"id": "another"}]


class Listing(ModelServer):
    """Answers the question for its models to those who know the key, and counts what was asked."""

    status, answer = 200, ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].endswith("/models"):
            await super().__call__(scope, receive, send)
            return
        await self._list(dict(scope["headers"]))(scope, receive, send)

    def _list(self, headers: dict[bytes, bytes]) -> Response:
        if headers.get(b"authorization") != f"Bearer {KEY}".encode():
            return JSONResponse({"error": {"message": f"wrong key {headers.get(b'authorization')!r}"}}, 401)
        return Response(self.answer, self.status, media_type="application/json")


@pytest.fixture(scope="module")
def running() -> Iterator[Listing]:
    with serving(Listing()) as server:
        yield server


@pytest.fixture
def server(running: Listing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Listing:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    running.status, running.answer = 200, json.dumps({"object": "list", "data": LISTED})
    return running


def settings(**changes: object) -> Settings:
    return load_settings("laptop", changes)


def asking(server: Listing, **black_box: object) -> Settings:
    return settings(black_box={**PAID["black_box"], "base_url": server.url, **black_box})


def found(settings: Settings, what: str) -> Finding:
    (one,) = [one for one in examine(settings) if one.what == what]
    return one


def bad(settings: Settings) -> set[str]:
    return {one.what for one in examine(settings) if one.bad}


def test_a_key_that_the_endpoint_takes_and_a_model_that_it_serves_are_in_order(server: Listing) -> None:
    assert bad(asking(server)) == set()
    assert found(asking(server), "black box, key").found == "the endpoint takes it"
    assert server.requests == []  # no chat completion: nothing was spent


def test_a_key_that_the_endpoint_refuses_is_bad_and_is_not_repeated(
    server: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-4c8d1e7f")
    one = found(asking(server), "black box, key")
    assert one.bad
    assert one.found == "the endpoint refuses the key (HTTP 401)"
    assert "OPENAI_API_KEY" in one.todo
    assert "sk-wrong" not in "".join(finding.line() for finding in examine(asking(server)))


def test_a_model_that_the_endpoint_does_not_list_is_noted_and_the_others_are_named(server: Listing) -> None:
    one = found(asking(server, model="some-modle"), "black box, model")
    assert one.line().startswith("note black box, model: some-modle is not listed by the endpoint")
    assert "another, some-model" in one.todo


FORMS = {
    "bare": [{"id": "some-model"}],
    "with a folder": {"data": [{"id": "models/some-model"}]},
    "with others that are no models": {"data": [None, {"id": 3}, {"name": "x"}, {"id": "some-model"}]},
}


@pytest.mark.parametrize("answer", FORMS.values(), ids=FORMS)
def test_a_list_may_have_several_forms(server: Listing, answer: object) -> None:
    server.answer = json.dumps(answer)
    assert found(asking(server), "black box, model").line() == "ok   black box, model: some-model"


NO_LISTS = {
    "no route": (404, "{}"),
    "another method": (405, "{}"),
    "a page": (200, "<html>"),
    "nothing": (200, ""),
    "null": (200, "null"),
    "no data": (200, '{"object": "list"}'),
    "null for data": (200, '{"data": null}'),
    "none": (200, '{"data": []}'),
}


@pytest.mark.parametrize("answer", NO_LISTS.values(), ids=NO_LISTS)
def test_an_endpoint_without_a_list_cannot_be_tried_for_free_and_that_is_said(
    server: Listing, answer: tuple[int, str]
) -> None:
    server.status, server.answer = answer
    assert "cannot be tried without a paid call" in found(asking(server), "black box, key").found
    assert bad(asking(server)) == set()


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_failure_that_says_nothing_of_the_key_is_not_laid_at_its_door(server: Listing, status: int) -> None:
    server.status, server.answer = status, '{"error": {"message": "Missing scopes: api.model.read"}}'
    one = found(asking(server), "black box, key")
    assert one.line().startswith("note black box, key: OPENAI_API_KEY is set, but could not be tried")
    assert f"HTTP {status}" in one.todo


def test_an_account_without_quota_is_bad(server: Listing) -> None:
    server.status, server.answer = 429, '{"error": {"message": "no", "code": "insufficient_quota"}}'
    assert bad(asking(server)) == {"black box, key"}


def test_the_pairwise_judge_is_looked_at_like_the_black_box(server: Listing) -> None:
    judge = {"base_url": server.url, "model": "nobody", "budget_usd": 1}
    pairwise = settings(evaluation={"judge": {"endpoint": judge}})
    assert bad(pairwise) == {"pairwise judge, price"}
    assert found(pairwise, "pairwise judge, model").todo
    gone = settings(evaluation={"judge": {"endpoint": {**judge, "base_url": "http://127.0.0.1:9/v1"}}})
    assert "pairwise judge, endpoint" in bad(gone)


def test_a_cpu_is_enough_for_a_small_model_whatever_its_name_says(server: Listing, tmp_path: Path) -> None:
    folder = tmp_path / "llama-70b"
    folder.mkdir()
    save_file({"weight": torch.zeros(3, 4)}, folder / "model.safetensors")
    assert stored_parameters(folder) == 12
    assert not found(settings(white_box={"model": str(folder)}), "GPU").bad
    one = found(settings(white_box={"model": "somebody/llama-70b"}), "GPU")
    assert one.bad
    assert "70,000M parameters" in one.found


def test_a_size_that_nobody_states_is_said_to_be_unknown(server: Listing, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(json.dumps({}).encode())  # broken
    one = found(settings(white_box={"model": str(folder)}), "GPU")
    assert not one.bad
    assert "is not known" in one.todo


@pytest.mark.parametrize(
    ("changes", "what", "words"),
    [
        (
            {"evaluation": {"reward_model": "classifier", "reward_model_name": "./nowhere"}},
            "reward model",
            "evaluation.reward_model_name",
        ),
        (
            {"evaluation": {"reward_model": "preference"}, "preference": {"model": "./nowhere"}},
            "preference models read",
            "./nowhere",
        ),
    ],
    ids=["reward model", "what preference models read"],
)
def test_models_that_are_not_there_are_bad(server: Listing, changes: dict[str, object], what: str, words: str) -> None:
    one = found(settings(**changes), what)
    assert one.bad
    assert words in one.todo


def about_ranks(**training: int) -> list[str]:
    """What is found about ranks on a CPU."""
    examined = examine(settings(training=training, white_box={"device": "cpu"}))
    return [one.line() for one in examined if one.what == "ranks"]


def test_ranks_are_looked_at_where_there_is_more_than_one(server: Listing) -> None:
    assert about_ranks() == []
    assert about_ranks(ranks=2, wave=2, prompts_per_optimizer_step=3) == ["ok   ranks: 2 on the CPU"]


def test_ranks_without_an_example_of_their_own_are_said_to_idle(server: Listing) -> None:
    (line,) = about_ranks(ranks=4, prompts_per_optimizer_step=1)
    assert "3 have no example of an optimizer step" in line


def test_quantisation_needs_its_extra(server: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = settings(white_box={"quantization": "nf4"})
    assert found(quantised, "quantization").line().startswith("ok   quantization: nf4, bitsandbytes 0.")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as Python marks what cannot be imported
    one = found(quantised, "quantization")
    assert one.bad
    assert "pip install" in one.todo
    assert "[quantization]" in one.todo
    assert "quantization" not in {finding.what for finding in examine(settings())}
