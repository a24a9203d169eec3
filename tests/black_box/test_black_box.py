"""One attempt over real HTTP: what each answer, and each way of not getting one, comes to."""

import asyncio
import pickle
import traceback
from collections.abc import Iterator

import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.errors import CallRejected, CallTransient, CycleAlignError, EndpointRefused, UsageError
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.records import ChatReply, ChatRequest, Message
from cyclealign.settings import BlackBoxSettings
from tests.black_box.model_server import USAGE, ModelServer, completion
from tests.serving import serving

CANARY = "sk-canary-0123456789-abcdefghij"
PROMPT = render_ranking_prompt("Human: hello\n\nAssistant:", ["b", "a", "c"], ())
REQUEST = ChatRequest("ranking", "some-model", (Message("user", PROMPT),), {"max_tokens": 50, "seed": 3})


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """A running server; each test sets its plan."""
    with serving(ModelServer()) as running:
        yield running


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment that must never be seen again."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)


def send(server: ModelServer, behaviour: str) -> ChatReply:
    """One attempt at `REQUEST` while the server behaves so."""
    server.plan = lambda _number, _body: behaviour
    timeout_s = 0.4 if behaviour == "hang" else 10
    settings = BlackBoxSettings(base_url=server.url, model="some-model", timeout_s=timeout_s)
    return asyncio.run(_send(ChatEndpoint(settings), REQUEST))


async def _send(endpoint: ChatEndpoint, request: ChatRequest) -> ChatReply:
    try:
        return await endpoint.send(request)
    finally:
        await endpoint.close()


def test_a_reply_is_kept_raw_and_read(server: ModelServer) -> None:
    reply = send(server, "good")
    assert '"desired rank": [1, 0, 2]' in (reply.content or "")
    assert '"choices"' in reply.raw
    assert (reply.prompt_tokens, reply.completion_tokens) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    assert (reply.model, reply.finish_reason, reply.refusal) == ("served-model", "stop", None)


def test_the_body_that_is_sent_is_the_body_in_the_call_key(server: ModelServer) -> None:
    send(server, "good")
    assert server.requests[-1] == REQUEST.body()


def test_one_attempt_is_one_request(server: ModelServer) -> None:
    before = len(server.requests)
    with pytest.raises(CallTransient):
        send(server, "500")
    assert len(server.requests) == before + 1


TRANSIENT = {
    "rate limit": ("rate_limit", 429, None, False),
    "rate limit, retry-after": ("rate_limit", 429, 0.1, False),
    "rate limit, retry-after-ms": ("rate_limit", 429, 0.05, False),
    "500": ("server_error", 500, None, False),
    "502": ("overloaded", 502, None, False),
    "503": ("overloaded", 503, 0.05, False),
    "reset": ("connection", None, None, True),
    "hang": ("timeout", None, None, True),
    "truncated body": ("connection", None, None, True),
    "empty body": ("empty_body", 200, None, True),
    "no choices": ("no_choices", 200, None, True),
    "error with status 200": ("no_choices", 200, None, True),
    "broken json": ("unreadable_body", 200, None, True),
}


@pytest.mark.parametrize("behaviour", TRANSIENT, ids=str)
def test_worth_another_attempt(server: ModelServer, behaviour: str) -> None:
    with pytest.raises(CallTransient) as caught:
        send(server, behaviour)
    error = caught.value
    assert (error.kind, error.http_status, error.retry_after, error.billed) == TRANSIENT[behaviour]


def test_a_body_that_cannot_be_read_is_attached(server: ModelServer) -> None:
    with pytest.raises(CallTransient) as caught:
        send(server, "broken json")
    assert caught.value.raw == '{"choices": [{"message"'


def test_a_slow_first_byte_is_waited_for(server: ModelServer) -> None:
    assert send(server, "slow first byte").finish_reason == "stop"


REJECTED = {"bad request": "bad_request", "filtered prompt": "content_filter"}


@pytest.mark.parametrize("behaviour", REJECTED, ids=str)
def test_this_request_will_never_be_accepted(server: ModelServer, behaviour: str) -> None:
    with pytest.raises(CallRejected) as caught:
        send(server, behaviour)
    assert (caught.value.kind, caught.value.http_status) == (REJECTED[behaviour], 400)


REFUSED = {
    "quota": ("quota", 429, "add credit"),
    "revoked key": ("key", 401, "black_box.api_key_env"),
    "forbidden": ("key", 403, "black_box.api_key_env"),
    "model not found": ("model", 404, "black_box.model"),
    "unsupported parameter": ("parameter", 400, "change it under black_box"),
    "moved": ("model", 307, "black_box.base_url"),
}


@pytest.mark.parametrize("behaviour", REFUSED, ids=str)
def test_no_request_will_be_accepted(server: ModelServer, behaviour: str) -> None:
    with pytest.raises(EndpointRefused) as caught:
        send(server, behaviour)
    kind, status, advice = REFUSED[behaviour]
    assert (caught.value.kind, caught.value.http_status) == (kind, status)
    assert advice in str(caught.value)
    assert "same command continues" in str(caught.value)


def test_nobody_listening_costs_nothing(server: ModelServer) -> None:
    endpoint = ChatEndpoint(BlackBoxSettings(base_url="http://127.0.0.1:9/v1", model="some-model"))
    with pytest.raises(CallTransient) as caught:
        asyncio.run(_send(endpoint, REQUEST))
    assert (caught.value.kind, caught.value.billed) == ("connection", False)


@pytest.mark.parametrize("behaviour", [*TRANSIENT, *REJECTED, *REFUSED], ids=str)
def test_no_error_holds_the_key(server: ModelServer, behaviour: str) -> None:
    with pytest.raises(CycleAlignError) as caught:
        send(server, behaviour)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = "".join(frames.format()) + repr(error) + str(error) + repr(vars(error))
    assert CANARY not in shown
    assert CANARY.encode() not in pickle.dumps(error)


def test_a_server_that_echoes_the_key_is_read_without_it(server: ModelServer) -> None:
    reply = send(server, "echo")
    assert reply.content == "Bearer [key]"
    assert CANARY not in reply.raw


def test_errors_survive_pickling_with_what_they_say(server: ModelServer) -> None:
    with pytest.raises(CallTransient) as caught:
        send(server, "rate limit, retry-after")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own bytes
    assert (type(copy), str(copy), vars(copy)) == (CallTransient, str(caught.value), vars(caught.value))


def test_a_missing_key_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    endpoint = ChatEndpoint(BlackBoxSettings(model="some-model"))
    with pytest.raises(EndpointRefused, match="export OPENAI_API_KEY") as caught:
        endpoint.require_key()
    assert caught.value.kind == "key"


@pytest.mark.parametrize("key", ["two words of a key", "schlüssel-0123456789"], ids=["spaces", "non-ASCII"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointRefused, match="characters that no key has") as caught:
        ChatEndpoint(BlackBoxSettings(model="some-model")).require_key()
    assert key not in str(caught.value)


def test_a_line_break_after_the_key_does_no_harm(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY + "\n")
    assert send(server, "good").finish_reason == "stop"


def test_a_server_on_loopback_needs_no_key(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert send(server, "good").finish_reason == "stop"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("HTTPS://Api.Example.com:8443/a/v1/", "https://api.example.com:8443/a/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_the_origin_tells_endpoints_apart(url: str, origin: str) -> None:
    assert ChatEndpoint(BlackBoxSettings(base_url=url)).origin == origin


@pytest.mark.parametrize(
    "url", ["api.openai.com/v1", "ftp://host/v1", "https://me:secret@host/v1", "https://host/v1?key=secret"]
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises((UsageError, ValueError), match="base_url") as caught:
        ChatEndpoint(BlackBoxSettings(base_url=url))
    assert "secret" not in str(caught.value)


async def offline_app(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says which path it was asked for and what came as authorization."""
    headers = dict(scope["headers"])
    said = f"{scope['path']} {headers[b'authorization'].decode()}"
    await JSONResponse(completion(said))(scope, receive, send)


async def broken_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the judge broke")


async def hanging_app(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(30)


OFFLINE = BlackBoxSettings(endpoint="world", timeout_s=10)


def test_an_offline_endpoint_is_the_same_client_in_process_without_the_key() -> None:
    endpoint = ChatEndpoint(OFFLINE, offline_app)
    reply = asyncio.run(_send(endpoint, REQUEST))
    assert reply.content == "/v1/chat/completions Bearer none"
    assert endpoint.origin == "offline://world"


def test_an_offline_application_that_breaks_is_a_server_error() -> None:
    with pytest.raises(CallTransient) as caught:
        asyncio.run(_send(ChatEndpoint(OFFLINE, broken_app), REQUEST))
    assert caught.value.kind == "server_error"


def test_an_offline_application_that_hangs_times_out() -> None:
    with pytest.raises(CallTransient) as caught:
        impatient = OFFLINE.model_copy(update={"timeout_s": 0.2})
        asyncio.run(_send(ChatEndpoint(impatient, hanging_app), REQUEST))
    assert caught.value.kind == "timeout"


def test_an_offline_endpoint_needs_its_application() -> None:
    with pytest.raises(ValueError, match="needs its application"):
        ChatEndpoint(OFFLINE)
