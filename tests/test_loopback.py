"""Which requests a server of ours lets in, and where it may listen."""

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
    """An application that lets every request in."""
    http = scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []} if http else {"type": "websocket.accept"})


def answer(kind: str, headers: dict[str, str], token: str | None = None) -> str:
    """The status of the first message that a request or a web socket gets, or its type."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": f"{kind}.disconnect"}

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": kind, "headers": pairs, "method": "GET", "path": "/", "query_string": b""}
    asyncio.run(Guard(welcome, token)(scope, receive, send))
    return str(sent[0].get("status", sent[0]["type"]))


@pytest.mark.parametrize(("headers", "welcomed"), REQUESTS)
def test_requests_and_web_sockets_are_let_in_by_name_and_origin(headers: dict[str, str], welcomed: bool) -> None:
    assert answer("http", headers) == ("200" if welcomed else "403")
    assert answer("websocket", headers) == ("websocket.accept" if welcomed else "websocket.close")


def test_with_a_token_its_bearer_is_let_in_from_anywhere_and_no_other() -> None:
    bearer, stranger = ({"host": HOME, "authorization": f"Bearer {word}"} for word in ("right", "wrong"))
    elsewhere = {**bearer, "host": "box.example"}
    assert [answer("http", one, "right") for one in (elsewhere, stranger)] == ["200", "401"]
    assert [answer("websocket", one, "right") for one in (elsewhere, stranger)] == [
        "websocket.accept",
        "websocket.close",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "", "192.168.0.7", "box.example"])  # noqa: S104
def test_every_address_but_loopback_needs_a_token(host: str) -> None:
    refused = dict.fromkeys((None, "", "secret"), False)
    for token in refused:
        try:
            refuse_open(host, token, "Export TOKEN.")
        except UsageError as error:
            refused[token] = "for anybody" in str(error) and "Export TOKEN." in str(error)
    open_to_all = host not in ("127.0.0.1", "localhost", "::1")
    assert refused == {None: open_to_all, "": open_to_all, "secret": False}


def test_a_free_port_is_found_and_given_back_and_one_in_use_is_refused_with_what_to_do() -> None:
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=re.compile(rf"127\.0\.0\.1, port {port}: .*in use.*Choose another\.")):
            listen("127.0.0.1", port, "Choose another.")
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="Expected an address of this machine"):
        listen(host, 0, "")
