"""The black-box model: one attempt at one chat completion over the `openai` library; no trace of the key.

`ChatEndpoint.send` is the only way out to a chat-completions server, whether a paid API, a server on this machine or
the offline judge, which is the same client over an in-process transport. A reply is read leniently: the run that paid
for it gets all of it, and judging it comes later. Leaves out retries, recording and money (`tasks.asking.protocol`),
what a failure means (`failures`), what an answer says (`cyclealign.method.answers`).
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

from cyclealign.black_box.capabilities import parameters_of
from cyclealign.black_box.failures import blot, failure_of, how_to_set, key_in, translate
from cyclealign.errors import CallFailed, CallTransient, CycleAlignError, EndpointRefused, UsageError
from cyclealign.loopback import LOOPBACK
from cyclealign.records import ChatReply
from cyclealign.settings import BlackBoxSettings

PLACEHOLDER_KEY: Final = "none"
"""Sent where no key is needed; the `openai` library insists on one."""
OFFLINE_URL: Final = "http://offline.invalid/v1"
API_VERSION: Final = "api-version="
"""What the only query of a base URL begins with: https://NAME.openai.azure.com/openai/deployments/MODEL?api-version=…"""
T = TypeVar("T")


class ChatEndpoint:
    """A chat-completions endpoint. Belongs to the event loop that first sends through it.

    Args:
        settings: Where it is, which environment variable holds the key, how long to wait.
        app: An ASGI application that is called in-process instead of `base_url` (the offline judge).

    Raises:
        UsageError: `base_url` is no plain http(s) address.
        ValueError: an offline endpoint comes without its application.
    """

    def __init__(self, settings: BlackBoxSettings, app: Any | None = None) -> None:
        if settings.endpoint != "api" and app is None:
            raise ValueError(f"the offline endpoint {settings.endpoint} needs its application, found none")
        self._settings = settings
        self._app = app
        self._client: AsyncOpenAI | None = None
        self._secret = ""
        self.origin: str = _origin(settings, app)
        """Tells endpoints apart in call keys: the base URL, or `offline://` with the judge's name and identity."""

    async def send(self, body: Mapping[str, Any]) -> ChatReply:
        """Exactly one attempt at a request with this body.

        Raises:
            CallTransient: worth another attempt; `raw` holds the body of a 200 that could not be read.
            CallRejected: this request will never be accepted.
            EndpointRefused: no request will be accepted.
        """

        async def post(client: AsyncOpenAI) -> str:
            response = await client.chat.completions.with_raw_response.create(
                model=body["model"],
                messages=body["messages"],
                extra_body=parameters_of(body),  # as given: the body that is sent is the body in the call key
            )
            return response.http_response.text

        return read_reply(blot(await self._attempt(post), self._secret))

    async def models(self) -> list[str] | None:
        """The models that the endpoint lists for this key, which costs nothing; None where there is no list to read.

        Raises: as `send`.
        """

        async def listed(client: AsyncOpenAI) -> str:
            return (await client.models.with_raw_response.list()).http_response.text

        try:
            return _names(blot(await self._attempt(listed), self._secret))
        except EndpointRefused as refusal:
            if refusal.http_status in (404, 405):
                return None
            raise

    async def close(self) -> None:
        """Give the connections back; in the event loop that used them."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def require_key(self) -> str:
        """The key, or a placeholder where none is needed.

        Raises:
            EndpointRefused: no usable key in the environment.
        """
        variable = self._settings.api_key_env
        key = key_in(variable) if self._settings.endpoint == "api" else ""
        if key:
            return key
        if self._app is not None or urlsplit(self._settings.base_url).hostname in LOOPBACK:
            return PLACEHOLDER_KEY
        raise EndpointRefused(
            f"No key for {self.origin}: the environment variable {variable} is not set. {how_to_set(variable)}",
            kind="key",
        )

    async def _attempt(self, call: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
        """One use of the client; what goes wrong comes out as the project's error, without a trace of the key."""
        self._client = self._client or self._connect()
        failure: CycleAlignError
        try:
            async with asyncio.timeout(self._settings.timeout_s):  # in-process transports know no timeouts
                return await call(self._client)
        except Exception as error:
            failure = translate(error, self._secret)
        # Outside the except block: __context__ would hold the request with its Authorization header.
        raise failure

    def _connect(self) -> AsyncOpenAI:
        key = self.require_key()
        self._secret = "" if key == PLACEHOLDER_KEY else key
        transport = None if self._app is None else httpx2.ASGITransport(self._app, raise_app_exceptions=False)
        address, _, query = self._settings.base_url.partition("?")
        versioned = query.startswith(API_VERSION)  # Azure's way, where the key goes by a header of its own too
        return AsyncOpenAI(
            api_key=key,
            base_url=address if self._settings.endpoint == "api" else OFFLINE_URL,
            default_query={API_VERSION[:-1]: query.removeprefix(API_VERSION)} if versioned else None,
            default_headers={"api-key": key} if versioned else None,
            max_retries=0,  # the library would also repeat quota errors and paid timeouts
            timeout=self._settings.timeout_s,
            # a moved address is a setting to mend, not a place to send to
            http_client=DefaultAsyncHttpx2Client(transport=transport, follow_redirects=False),
        )


def read_reply(raw: str) -> ChatReply:
    """The first choice of a chat-completion body, as it is.

    Missing usage reads as 0 tokens. `strict=False`: some servers emit raw control characters inside strings.

    Raises:
        CallTransient: the body is empty, is not JSON or has no choices; `raw` is attached.
        CycleAlignError: the body is an error, whatever its HTTP status said; see `failures.failure_of`.
    """
    body, problem = dict[str, Any](), "unreadable_body" if raw.strip() else "empty_body"
    with suppress(ValueError, RecursionError):
        body, problem = mapping(json.loads(raw, strict=False)), "no_choices"
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    usage = mapping(body.get("usage"))
    if not isinstance(choice, dict):
        if body.get("error"):
            code = _tokens(mapping(body["error"]).get("code"))
            counted = any(_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
            found = failure_of(code if 400 <= code < 600 else 200, body["error"])
            if isinstance(found, CallFailed):
                found.billed, found.raw = found.billed or counted, raw
            raise found
        words = f"HTTP 200, but {problem.replace('_', ' ')}: {len(raw)} characters."
        raise CallTransient(words, kind=problem, http_status=200, billed=True, raw=raw)
    message = mapping(choice.get("message"))
    return ChatReply(
        raw=raw,
        content=_content(message.get("content")),
        refusal=_text(message.get("refusal")),
        finish_reason=_text(choice.get("finish_reason")),
        model=_text(body.get("model")),
        prompt_tokens=_tokens(usage.get("prompt_tokens")),
        completion_tokens=_tokens(usage.get("completion_tokens")),
    )


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object; anything else reads as an empty one."""
    return value if isinstance(value, dict) else {}


def _content(value: Any) -> str | None:
    """The text of a message; servers of reasoning models may send it in typed parts."""
    if not isinstance(value, list):
        return _text(value)
    parts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(filter(None, map(_text, parts)))


def _text(value: Any) -> str | None:
    """A string that can be stored: JSON may hold halves of surrogate pairs, which UTF-8 does not."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def _tokens(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 2**40 else 0


def _names(raw: str) -> list[str] | None:
    """The names in a list of models, in OpenAI's form or bare; None where it is no such list."""
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    entries = value.get("data") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        return None
    return [one["id"] for one in entries if isinstance(one, dict) and isinstance(one.get("id"), str)]


def _origin(settings: BlackBoxSettings, app: Any | None) -> str:
    if settings.endpoint != "api":
        identity = getattr(getattr(app, "state", None), "identity", "")
        return f"offline://{settings.endpoint}/{identity}".rstrip("/")
    try:
        url = urlsplit(settings.base_url)
        port = f":{url.port}" if url.port else ""
    except ValueError:
        url, port = urlsplit(""), ""
    plain = url.scheme in ("http", "https") and not url.username
    if not plain or not url.hostname or (url.query and not re.fullmatch(rf"{API_VERSION}[\w.-]+", url.query)):
        raise UsageError(
            "black_box.base_url must be http(s)://host[:port]/path without user or password and without a query "
            "other than Azure's api-version=…, for example https://api.openai.com/v1; a key belongs into the "
            "environment variable that black_box.api_key_env names."
        )
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"
