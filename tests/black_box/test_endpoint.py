"""One attempt over real HTTP: what each answer, and each way of not getting one, comes to; no trace of the key."""

import asyncio
import pickle
import traceback
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from cyclealign.black_box.endpoint import ChatEndpoint, read_reply
from cyclealign.errors import CallRejected, CallTransient, CycleAlignError, EndpointRefused, UsageError
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.records import ChatReply
from cyclealign.settings import BlackBoxSettings
from tests.black_box.model_server import USAGE, ModelServer, completion
from tests.serving import serving

CANARY = "sk-canary-0123456789-abcdefghij"
PROMPT = render_ranking_prompt("Human: hello\n\nAssistant:", ["b", "a", "c"], ())
BODY = {"model": "some-model", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 50, "seed": 3}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment that must never be seen again."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)


def send(server: ModelServer, behaviour: str = "good") -> ChatReply:
    """One attempt at `BODY` while the server behaves so."""
    server.plan = lambda _number, _body: behaviour
    timeout_s = 0.4 if behaviour == "hang" else 10
    return through(ChatEndpoint(BlackBoxSettings(base_url=server.url, model="some-model", timeout_s=timeout_s)))


def through(endpoint: ChatEndpoint) -> ChatReply:
    async def attempt() -> ChatReply:
        try:
            return await endpoint.send(BODY)
        finally:
            await endpoint.close()

    return asyncio.run(attempt())


def test_the_body_of_the_call_key_is_sent_and_the_reply_is_kept_raw_and_read(server: ModelServer) -> None:
    reply = send(server)
    assert server.requests == [BODY]
    assert '"desired rank": [1, 0, 2]' in (reply.content or "")
    assert '"choices"' in reply.raw
    assert (reply.prompt_tokens, reply.completion_tokens) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    assert (reply.model, reply.finish_reason, reply.refusal) == ("served-model", "stop", None)


FAILURES: dict[str, tuple[type[CycleAlignError], str, int | None]] = {
    "rate limit, retry-after": (CallTransient, "rate_limit", 429),
    "500": (CallTransient, "server_error", 500),
    "502": (CallTransient, "overloaded", 502),
    "reset": (CallTransient, "connection", None),
    "hang": (CallTransient, "timeout", None),
    "truncated body": (CallTransient, "connection", None),
    "empty body": (CallTransient, "empty_body", 200),
    "no choices": (CallTransient, "no_choices", 200),
    "error with status 200": (CallTransient, "overloaded", 502),
    "rate limit with status 200": (CallTransient, "rate_limit", 429),
    "no credit with status 200": (EndpointRefused, "quota", 500),
    "counted error with status 200": (CallTransient, "server_error", 500),
    "broken json": (CallTransient, "unreadable_body", 200),
    "bad request": (CallRejected, "bad_request", 400),
    "too long": (CallRejected, "context_length", 400),
    "filtered prompt": (CallRejected, "content_filter", 400),
    "quota": (EndpointRefused, "quota", 429),
    "revoked key": (EndpointRefused, "key", 401),
    "forbidden": (EndpointRefused, "key", 403),
    "model not found": (EndpointRefused, "model", 404),
    "unsupported parameter": (EndpointRefused, "parameter", 400),
    "moved": (EndpointRefused, "model", 307),
}
ADVICE = {
    "quota": "add credit",
    "key": "black_box.api_key_env",
    "model": "black_box.model and black_box.base_url",
    "parameter": "change it under black_box",
}


@pytest.mark.parametrize("behaviour", FAILURES, ids=str)
def test_a_failure_is_translated_after_one_request_and_holds_the_key_nowhere(
    server: ModelServer, behaviour: str
) -> None:
    with pytest.raises(CycleAlignError) as caught:
        send(server, behaviour)
    error: Any = caught.value
    assert (type(error), error.kind, error.http_status) == FAILURES[behaviour]
    assert len(server.requests) == 1
    if isinstance(error, EndpointRefused):
        assert ADVICE[error.kind] in str(error)
        assert "same command continues" in str(error)
    if isinstance(error, CallTransient):
        assert error.billed == (error.http_status in (None, 200) or behaviour.startswith("counted"))
        assert error.retry_after == (0.1 if behaviour == "rate limit, retry-after" else None)
    assert (error.__context__, error.__cause__) == (None, None)
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert CANARY not in "".join(frames.format()) + repr(error) + str(error) + repr(vars(error))
    pickled = pickle.dumps(error)
    assert CANARY.encode() not in pickled
    assert str(pickle.loads(pickled)) == str(error)  # noqa: S301  our own bytes


def test_an_address_where_no_server_listens_costs_nothing() -> None:
    with pytest.raises(CallTransient) as caught:
        through(ChatEndpoint(BlackBoxSettings(base_url="http://127.0.0.1:9/v1", model="some-model")))
    assert (caught.value.kind, caught.value.billed) == ("connection", False)


def test_a_server_that_echoes_the_key_is_read_without_it(server: ModelServer) -> None:
    reply = send(server, "echo")
    assert reply.content == "Bearer [key]"
    assert CANARY not in reply.raw


def test_a_missing_key_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EndpointRefused, match="export OPENAI_API_KEY") as caught:
        ChatEndpoint(BlackBoxSettings(model="some-model")).require_key()
    assert caught.value.kind == "key"


@pytest.mark.parametrize("key", ["two words of a key", "schlüssel-0123456789"], ids=["spaces", "non-ASCII"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointRefused, match="characters that no key has") as caught:
        ChatEndpoint(BlackBoxSettings(model="some-model")).require_key()
    assert key not in str(caught.value)


@pytest.mark.parametrize("key", [CANARY + "\n", ""], ids=["line break after the key", "no key on loopback"])
def test_a_key_that_does_no_harm(server: ModelServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert send(server).finish_reason == "stop"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("HTTPS://Api.Example.com:8443/a/v1/", "https://api.example.com:8443/a/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://me.example/openai/deployments/m?api-version=2024-10-21", "https://me.example/openai/deployments/m"),
    ],
)
def test_the_origin_tells_endpoints_apart(url: str, origin: str) -> None:
    assert ChatEndpoint(BlackBoxSettings(base_url=url)).origin == origin


NO_ADDRESSES = [
    *("api.openai.com/v1", "ftp://host/v1", "https://me:secret@host/v1", "https://host/v1?key=secret"),
    "https://host/v1?api-version=1&key=secret",
]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises((UsageError, ValueError), match="base_url") as caught:
        ChatEndpoint(BlackBoxSettings(base_url=url))
    assert "secret" not in str(caught.value)


class Azure(ModelServer):
    """Answers with where and how it was asked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = f"{scope['path']}?{scope['query_string'].decode()} {dict(scope['headers'])[b'api-key'].decode()}"
        await JSONResponse(completion(said))(scope, receive, send)


def test_azures_version_and_header_go_with_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "azures-key")
    with serving(Azure()) as server:
        url = f"{server.url}/openai/deployments/m?api-version=2024-10-21"
        said = through(ChatEndpoint(BlackBoxSettings(base_url=url, model="some-model"))).content
    assert said == "/v1/openai/deployments/m/chat/completions?api-version=2024-10-21 azures-key"


# The offline judge: the same client over an application in this process


async def offline_app(scope: Scope, receive: Receive, send: Send) -> None:
    said = f"{scope['path']} {dict(scope['headers'])[b'authorization'].decode()}"
    await JSONResponse(completion(said))(scope, receive, send)


async def broken_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the judge broke")


async def hanging_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(30)


def test_an_offline_endpoint_gets_no_key() -> None:
    endpoint = ChatEndpoint(BlackBoxSettings(endpoint="world"), offline_app)
    assert through(endpoint).content == "/v1/chat/completions Bearer none"
    assert endpoint.origin == "offline://world"


@pytest.mark.parametrize(("app", "kind"), [(broken_app, "server_error"), (hanging_app, "timeout")])
def test_an_offline_application_that_breaks_or_hangs_is_worth_another_attempt(app: Any, kind: str) -> None:
    with pytest.raises(CallTransient) as caught:
        through(ChatEndpoint(BlackBoxSettings(endpoint="world", timeout_s=0.5), app))
    assert caught.value.kind == kind


# What a body says, read leniently


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ('"plain"', "plain"),
        ("null", None),
        ("7", None),
        ('[{"type": "thinking"}, {"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]', "in parts"),
        (r'"half a pair \ud83d"', "half a pair ?"),
        ('"raw \n newline"', "raw \n newline"),
    ],
    ids=["text", "null", "number", "parts", "half a surrogate pair", "control character"],
)
def test_content_is_read_leniently(content: str, read: str | None) -> None:
    assert read_reply(f'{{"choices": [{{"message": {{"content": {content}}}}}]}}').content == read


@pytest.mark.parametrize("usage", ["null", "7", '{"prompt_tokens": "many"}', '{"prompt_tokens": -1}'], ids=str)
def test_usage_that_is_none_reads_as_no_tokens(usage: str) -> None:
    reply = read_reply(f'{{"choices": [{{"message": {{}}}}], "usage": {usage}}}')
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    "raw",
    ["", " ", "[]", "7", "{", '{"choices": {}}', '{"choices": [7]}', "[" * 100_000, "<html>"],
    ids=lambda raw: raw[:9],
)
def test_a_body_without_a_choice_is_transient(raw: str) -> None:
    with pytest.raises(CallTransient) as caught:
        read_reply(raw)
    assert (caught.value.raw, caught.value.billed) == (raw, True)
