"""The judge behind HTTP: OpenAI's protocol and errors, and who is let in."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.types import ASGIApp

from cyclealign.loopback import Guard
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.chat_server import create_app
from cyclealign.offline.judge import Judge
from cyclealign.offline.ranker import Array, Gaussian
from cyclealign.offline.settings import JudgeSettings

PATH = "/v1/chat/completions"
TEXT = render_ranking_prompt("Human: hello\n\nAssistant:", ["long answer", "short"], [])
QUESTION = {"model": "offline-judge", "messages": [{"role": "user", "content": TEXT}]}


class Length:
    """The only feature: how much longer than the instruction a response is."""

    size = 1

    def __call__(self, instruction: str, responses: Sequence[str]) -> Array:
        return np.array([[float(len(text) - len(instruction))] for text in responses])


class Echo:
    """The only draft: the instruction."""

    def drafts(self, instruction: str) -> list[str]:
        return [instruction]


@pytest.fixture
def app() -> ASGIApp:
    return create_app(Judge(Length(), Echo(), Gaussian.isotropic(1, 1.0), JudgeSettings()), model_name="offline-judge")


def ask(app: ASGIApp, method: str, path: str, base: str = "http://127.0.0.1:80", **request: Any) -> httpx2.Response:
    async def once() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **request)

    return asyncio.run(once())


def test_a_ranking_prompt_is_answered(app: ASGIApp) -> None:
    reply = ask(app, "POST", PATH, json=QUESTION)
    assert reply.status_code == 200
    assert reply.json()["object"] == "chat.completion"
    assert reply.json()["model"] == "offline-judge"


def test_requests_in_flight_together_are_answered_as_if_they_were_alone(app: ASGIApp) -> None:
    questions = [{**QUESTION, "seed": seed} for seed in range(8)]

    async def all_at_once() -> list[Any]:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://offline.invalid") as client:
            replies = await asyncio.gather(*(client.post(PATH, json=question) for question in questions))
        return [reply.json() for reply in replies]

    together = asyncio.run(all_at_once())
    assert together == [ask(app, "POST", PATH, json=question).json() for question in questions]


def test_the_model_is_listed(app: ASGIApp) -> None:
    assert [entry["id"] for entry in ask(app, "GET", "/v1/models").json()["data"]] == ["offline-judge"]


REFUSED = [
    pytest.param({"content": b"{not json"}, 400, "invalid_json", id="broken JSON"),
    pytest.param({"content": b"\xff"}, 400, "invalid_json", id="no text"),
    pytest.param({"json": [1]}, 400, "invalid_json", id="a list"),
    pytest.param({"json": {**QUESTION, "model": "gpt-4"}}, 404, "model_not_found", id="unknown model"),
    pytest.param({"json": {"model": "offline-judge"}}, 400, "unreadable_request", id="no messages"),
]


@pytest.mark.parametrize(("request_", "status", "code"), REFUSED)
def test_errors_have_the_format_of_openai(app: ASGIApp, request_: dict[str, Any], status: int, code: str) -> None:
    reply = ask(app, "POST", PATH, **request_)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert error["code"] == code
    assert error["message"]


BASES = [
    pytest.param("http://127.0.0.1:8765", {}, 200, id="loopback"),
    pytest.param("http://localhost:8765", {}, 200, id="localhost"),
    pytest.param("http://[::1]:8765", {}, 200, id="IPv6 loopback"),
    pytest.param("http://evil.example:8765", {}, 403, id="a name rebound to loopback"),
    pytest.param("http://127.0.0.1:8765", {"origin": "http://localhost:3000"}, 200, id="local page"),
    pytest.param("http://127.0.0.1:8765", {"origin": "https://evil.example"}, 403, id="page elsewhere"),
    pytest.param("http://127.0.0.1:8765", {"origin": "null"}, 403, id="page without origin"),
]


@pytest.mark.parametrize(("base", "headers", "status"), BASES)
def test_without_a_token_only_loopback_is_let_in(app: ASGIApp, base: str, headers: dict[str, str], status: int) -> None:
    assert ask(Guard(app), "GET", "/v1/models", base, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("header", "status"), [("Bearer right", 200), ("Bearer wrong", 401), ("", 401)], ids=["right", "wrong", "none"]
)
def test_with_a_token_only_its_bearers_are_let_in(app: ASGIApp, header: str, status: int) -> None:
    headers = {"authorization": header} if header else {}
    guarded = Guard(app, token="right")
    assert ask(guarded, "GET", "/v1/models", "http://box.example", headers=headers).status_code == status
