"""Who is let in to a server of ours, and where it may listen."""

import asyncio
import re
import socket
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from cyclealign.errors import UsageError
from cyclealign.loopback import Guard, listen, refuse_open

HOME = "127.0.0.1:4311"
REQUESTS = [
    pytest.param({"host": HOME}, True, id="a client without a page"),
    pytest.param({"host": "LOCALHOST:4311"}, True, id="capital letters"),
    pytest.param({"host": "[::1]:4311", "origin": "http://[::1]:4311"}, True, id="IPv6"),
    pytest.param({"host": HOME, "origin": "http://localhost:4311"}, True, id="its own page under its other name"),
    pytest.param({"host": HOME, "origin": "https://evil.example"}, False, id="a page elsewhere"),
    pytest.param({"host": HOME, "origin": "null"}, False, id="a page without an origin"),
    pytest.param({"host": HOME, "origin": "http://127.0.0.1.evil.example"}, False, id="a name that begins alike"),
    pytest.param({"host": HOME, "origin": "http://evil.example@127.0.0.1"}, False, id="a name before ours"),
    pytest.param({"host": "evil.example:4311"}, False, id="a name made to point here"),
    pytest.param({"host": "localhost.evil.example"}, False, id="a name that begins with ours"),
    pytest.param({}, False, id="no name"),
]


async def welcome(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that lets everybody in."""
    kind = "http.response.start" if scope["type"] == "http" else "websocket.accept"
    await send({"type": kind, "status": 200, "headers": []})


def answer(kind: str, headers: dict[str, str], token: str | None = None) -> Message:
    """The first message that whoever connects gets."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": f"{kind}.disconnect"}

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": kind, "headers": pairs, "method": "GET", "path": "/", "query_string": b""}
    asyncio.run(Guard(welcome, token)(scope, receive, send))
    return sent[0]


@pytest.mark.parametrize(("headers", "welcomed"), REQUESTS)
def test_requests_are_let_in_by_name_and_origin(headers: dict[str, str], welcomed: bool) -> None:
    assert answer("http", headers)["status"] == (200 if welcomed else 403)


@pytest.mark.parametrize(("headers", "welcomed"), REQUESTS)
def test_web_sockets_are_let_in_by_the_same_rule(headers: dict[str, str], welcomed: bool) -> None:
    assert answer("websocket", headers)["type"] == ("websocket.accept" if welcomed else "websocket.close")


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_with_a_token_its_bearer_is_let_in_from_anywhere_and_nobody_else(kind: str) -> None:
    bearer = answer(kind, {"host": "box.example", "authorization": "Bearer right"}, token="right")
    assert bearer.get("status", 200) == 200
    assert bearer["type"] != "websocket.close"
    stranger = answer(kind, {"host": HOME, "authorization": "Bearer wrong"}, token="right")
    assert stranger.get("status", 401) == 401
    assert stranger["type"] != "websocket.accept"


def refused(host: str, token: str | None) -> str:
    """The words with which a server at this address is refused; empty where it may listen."""
    try:
        refuse_open(host, token, "Export TOKEN.")
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert refused(host, None) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "box.example"])  # noqa: S104  refused
@pytest.mark.parametrize("token", [None, ""], ids=["no token", "empty token"])
def test_every_other_address_needs_a_token(host: str, token: str | None) -> None:
    assert re.search(r"for anybody.*Export TOKEN\.", refused(host, token))
    assert refused(host, "secret") == ""


def test_a_free_port_is_found() -> None:
    with listen("127.0.0.1", 0, "") as listening:
        assert listening.getsockname()[1] > 0


def test_a_port_in_use_is_told_with_what_to_do() -> None:
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"127\.0\.0\.1, port {port}: .*in use.*Choose another\."):
            listen("127.0.0.1", port, "Choose another.")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told(host: str) -> None:
    with pytest.raises(UsageError, match="Expected an address of this machine"):
        listen(host, 0, "")


def test_sockets_are_closed_with_their_block() -> None:
    with listen("127.0.0.1", 0, "") as listening:
        port = listening.getsockname()[1]
    with socket.create_server(("127.0.0.1", port)):
        pass
