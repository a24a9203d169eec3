"""Every way in which a chat completion can fail, translated into the project's own errors in one place; and the key.

Exceptions of the `openai` library hold the request and with it the Authorization header, and a server may echo the key
in its message. The errors built here hold neither: a kind, a status, and the server's words with the key blotted out.
`cyclealign.black_box.endpoint` calls `translate`; no other module sees a foreign exception. Leaves out what to do about
a failure (`tasks.asking.protocol`).
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2
import openai

from cyclealign.errors import CallFailed, CallRejected, CallTransient, CycleAlignError, EndpointRefused

WORDS_SHOWN: Final = 300
"""Characters of a server's own message that are quoted."""
SHORTEST_SECRET: Final = 12
"""Shorter keys are placeholders for local servers; blotting those out would damage answers."""
QUOTA_CODES: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
)
MODEL_CODES: Final = frozenset({"model_not_found", "deployment_not_found", "DeploymentNotFound"})
PARAMETER_CODES: Final = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
    | {"max_tokens", "max_completion_tokens", "temperature", "response_format", "seed", "reasoning_effort"}
)
"""Also the names of what `capabilities.parameters_for` may send: refused once, refused for every prompt."""
FILTER_CODES: Final = frozenset({"content_filter", "content_policy_violation"})
LENGTH_CODES: Final = frozenset({"context_length_exceeded", "string_above_max_length"})
TOO_LONG: Final = re.compile(
    r"context.{0,10}(length|window|size)|maximum context|too many tokens|reduce the length"
    r"|(prompt|input|request|message).{0,20} too (long|large)|exceed.{0,40}(context|token)",
    re.IGNORECASE,
)
"""How servers say that a request does not fit into the model's context, where they give no code."""
STATUS_OF_CODES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "rate_limit"), 429),
    **dict.fromkeys(("overloaded_error", "overloaded", "engine_overloaded"), 529),
    **dict.fromkeys(("invalid_api_key", "authentication_error"), 401),
    "invalid_request_error": 400,
}
"""What an error without an HTTP status of its own amounts to; any other is a `server_error`."""
TRANSIENT_KINDS: Final[Mapping[int, str]] = {
    **dict.fromkeys((425, 502, 503, 504, 529), "overloaded"),
    **{408: "timeout", 409: "conflict", 429: "rate_limit"},
}
"""HTTP status to kind of failure; other statuses from 500 on are a `server_error`."""
GATEWAY_TIMEOUTS: Final = frozenset({408, 504, 524})
"""A gateway stopped waiting, but the model may have answered and been charged for."""
NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
"""The request did not leave, so the server cannot have charged for it."""
AGAIN: Final = "The same command continues the run where it stopped."


def key_in(variable: str) -> str:
    """The key in an environment variable; empty where it is not set.

    Raises:
        EndpointRefused: it holds characters that no key has; the message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if key and (not key.isascii() or not key.isprintable() or " " in key):
        raise EndpointRefused(
            f"{variable} holds characters that no key has (spaces, line breaks or non-ASCII). {how_to_set(variable)}",
            kind="key",
        )
    return key


def how_to_set(variable: str) -> str:
    """The last sentences of an error about a key."""
    return f"Set it to the endpoint's API key, for example: export {variable}=…  {AGAIN}"


def blot(text: str, secret: str) -> str:
    """`text` without the key."""
    return text.replace(secret, "[key]") if len(secret) >= SHORTEST_SECRET else text


def translate(error: Exception, secret: str = "") -> CycleAlignError:
    """The project's error for a foreign one, to be raised outside the `except` block without context.

    Args:
        error: What the `openai` library, its transport or a time limit raised.
        secret: The key, which is blotted out of all quoted words.
    """
    nearest = next((ancestor for ancestor in type(error).__mro__ if ancestor in TRANSLATIONS), None)
    return _unexpected(error, secret) if nearest is None else TRANSLATIONS[nearest](error, secret)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds the server asks to wait, from `retry-after-ms` or `Retry-After` (seconds or an HTTP date)."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        with suppress(ValueError):
            seconds = float(headers.get(name, "")) / unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp())


def _status(error: openai.APIStatusError, secret: str) -> CycleAlignError:
    """An HTTP status other than 2xx."""
    said = error.body if isinstance(error.body, dict) else {"message": error.body or error.response.reason_phrase}
    wait = retry_after(error.response.headers, datetime.now(UTC))
    return failure_of(error.status_code, said, secret, wait)


def failure_of(status: int, said: Any, secret: str = "", wait: float | None = None) -> CallFailed | EndpointRefused:
    """The error that a status and an error object stand for; codes first: quota errors come as 429, filters as 403.

    Args:
        status: The HTTP status; of an error inside a 200 the code that it gives, or 200 where it gives none.
        said: The value of `error` in the body: an object with message and codes, or a bare string.
        secret: The key, which is blotted out of all quoted words.
        wait: Seconds that the server asks to wait, where it said so.
    """
    body = said if isinstance(said, dict) else {"message": said}
    message = " ".join(str(body.get("message") or "no message").split())
    if body.get("param") and str(body["param"]) not in message:
        message = f"{body['param']}: {message}"
    printable = "".join(character for character in blot(message, secret) if character.isprintable())
    codes = {str(body.get(name)) for name in ("code", "type", "param")}
    if status == 200:
        status = next((STATUS_OF_CODES[code] for code in sorted(codes & STATUS_OF_CODES.keys())), 500)
    words = f"HTTP {status}: {printable[:WORDS_SHOWN]}"
    metadata = body.get("metadata")
    flagged = isinstance(metadata, dict) and "flagged_input" in metadata  # by a gateway (OpenRouter, with a 403)
    if codes & FILTER_CODES or flagged:
        return CallRejected(words, kind="content_filter", http_status=status)
    if status == 413 or codes & LENGTH_CODES or (status in (400, 422) and TOO_LONG.search(message)):
        return CallRejected(words, kind="context_length", http_status=status)
    refusal = _refusal(status, codes)
    if refusal:
        kind, advice = refusal
        return EndpointRefused(f"{advice} ({words}) {AGAIN}", kind=kind, http_status=status)
    if status in TRANSIENT_KINDS or status >= 500:
        kind, billed = TRANSIENT_KINDS.get(status, "server_error"), status in GATEWAY_TIMEOUTS
        return CallTransient(words, kind=kind, http_status=status, retry_after=wait, billed=billed)
    return CallRejected(words, kind="bad_request", http_status=status)


def _refusal(status: int, codes: set[str]) -> tuple[str, str] | None:
    """Kind and advice when this answer means that no call at all will get through."""
    if status == 402 or codes & QUOTA_CODES:
        return "quota", "The endpoint says that the account's quota is used up: add credit or raise its limit."
    if status in (401, 403):
        return "key", (
            "The endpoint refuses the key: put a valid one that may use this model into the environment "
            "variable that black_box.api_key_env names."
        )
    if codes & PARAMETER_CODES:
        return "parameter", "The model does not take a parameter that was sent: change it under black_box."
    if status in (404, 405, 410) or 300 <= status < 400 or codes & MODEL_CODES:
        return "model", (
            "The endpoint does not know the model, or has no chat completions at this address: check "
            "black_box.model and black_box.base_url."
        )
    return None


def _connection(error: Exception, secret: str) -> CycleAlignError:
    cause = _cause(error)
    return CallTransient(
        f"The connection to the endpoint failed ({f'{type(cause).__name__} {blot(str(cause), secret)}'.strip()}): "
        "check base_url and the network.",
        kind="connection",
        billed=not isinstance(cause, NEVER_SENT),
    )


def _timeout(error: Exception, _secret: str) -> CycleAlignError:
    cause = _cause(error)
    return CallTransient(
        f"No complete answer within the time limit (black_box.timeout_s): {type(cause).__name__}.",
        kind="timeout",
        billed=not isinstance(cause, NEVER_SENT),
    )


def _cause(error: BaseException) -> BaseException:
    """The transport's own exception, which the `openai` library wraps."""
    return error.__cause__ if isinstance(error, openai.APIError) and error.__cause__ else error


def _unreadable(error: Exception, secret: str) -> CycleAlignError:
    words = f"The endpoint's answer could not be read: {blot(str(error), secret)[:WORDS_SHOWN]}"
    return CallTransient(words, kind="unreadable_body", billed=True)


def _unexpected(error: Exception, secret: str) -> CycleAlignError:
    """What a chat completion cannot raise in the versions this was written for; stop rather than guess."""
    words = blot(str(error), secret)[:WORDS_SHOWN]
    return EndpointRefused(
        f"The openai library raised {type(error).__name__}, which no chat completion should: {words} "
        f"Compare its installed version with constraints.txt. {AGAIN}",
        kind="unexpected",
    )


TRANSLATIONS: Final[Mapping[type, Callable[[Any, str], CycleAlignError]]] = {
    openai.APIStatusError: _status,
    openai.APITimeoutError: _timeout,
    openai.APIConnectionError: _connection,
    openai.APIError: _unreadable,
    TimeoutError: _timeout,
    httpx2.TimeoutException: _timeout,
    httpx2.HTTPError: _connection,
    OSError: _connection,
}
"""Foreign class to translation; the nearest ancestor counts."""
