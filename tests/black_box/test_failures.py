"""Translation of foreign exceptions: none is left out, waiting times are read, the key is blotted out."""

import inspect
from datetime import UTC, datetime
from typing import Any

import httpx2
import openai
import openai._exceptions
import pytest

from cyclealign.black_box.failures import TRANSIENT_KINDS, TRANSLATIONS, blot, retry_after, translate
from cyclealign.errors import CallRejected, CallTransient, EndpointRefused

SECRET = "sk-canary-0123456789"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ELSEWHERE = {
    "ContentFilterFinishReasonError",
    "InvalidWebhookSignatureError",
    "LengthFinishReasonError",
    "SubjectTokenProviderError",
    "WebSocketConnectionClosedError",
    "WebSocketQueueFullError",
}
"""Raised by other parts of the library: parsed completions, webhooks, sockets, cloud identities."""


def test_every_exception_of_the_library_that_a_completion_can_raise_is_mapped() -> None:
    exported = [value for name, value in vars(openai).items() if not name.startswith("_")]
    exported += list(vars(openai._exceptions).values())
    classes = {one for one in exported if inspect.isclass(one) and issubclass(one, Exception)} - {openai.OpenAIError}
    unmapped = {one.__name__ for one in classes if not set(one.__mro__) & set(TRANSLATIONS)}
    assert unmapped == ELSEWHERE


@pytest.mark.parametrize("foreign", [httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.ConnectError, OSError])
def test_what_the_transport_raises_by_itself_is_mapped(foreign: type[Exception]) -> None:
    error = translate(foreign("broken"))
    assert isinstance(error, CallTransient)
    assert (error.kind, error.billed) == ("connection", foreign is not httpx2.ConnectError)


def test_an_unforeseen_exception_pauses_without_the_key() -> None:
    error = translate(openai.OpenAIError(f"something about {SECRET}"), SECRET)
    assert isinstance(error, EndpointRefused)
    assert "OpenAIError" in str(error)
    assert SECRET not in str(error)


def status_error(status: int, error: Any) -> Any:
    """The translation of an answer with this status and error, through the library's own reading of it."""
    request = httpx2.Request("POST", "http://host/v1", headers={"Authorization": f"Bearer {SECRET}"})
    response = httpx2.Response(status, json={"error": error}, request=request)
    client = openai.OpenAI(api_key="none", base_url="http://host/v1")
    return translate(client._make_status_error_from_response(response), SECRET)


TRANSIENT = [(status, {}, kind) for status, kind in TRANSIENT_KINDS.items()] + [(524, {}, "server_error")]
REJECTED: list[tuple[int, Any, str]] = [
    *[(status, {}, "bad_request") for status in (400, 418, 422)],
    (413, {}, "context_length"),
    (400, {"code": "context_length_exceeded"}, "context_length"),
    (422, "Input validation error: `inputs` tokens exceed the context", "context_length"),
    (400, "a bare string", "bad_request"),
    (403, {"metadata": {"flagged_input": "…"}}, "content_filter"),
]
REFUSED: list[tuple[int, Any, str]] = [
    (402, {}, "quota"),
    (429, {"type": "insufficient_quota"}, "quota"),
    (403, {"code": "billing_not_active"}, "quota"),
    (400, {"code": "model_not_found"}, "model"),
    (405, {}, "model"),
    (308, {}, "model"),
    (400, {"param": "response_format"}, "parameter"),
]
STATUSES = [(CallTransient, TRANSIENT), (CallRejected, REJECTED), (EndpointRefused, REFUSED)]


@pytest.mark.parametrize(
    ("kind_of_error", "status", "error", "kind"), [(one, *case) for one, cases in STATUSES for case in cases], ids=str
)
def test_what_a_status_and_its_error_mean(kind_of_error: type, status: int, error: Any, kind: str) -> None:
    found = status_error(status, error)
    assert (type(found), found.kind, found.http_status) == (kind_of_error, kind, status)
    assert getattr(found, "billed", False) == (status in (408, 504, 524))  # a gateway stopped waiting


def test_a_servers_words_are_one_short_printable_line_without_the_key() -> None:
    words = str(status_error(400, {"message": f"a\n\x1b[31mb {SECRET} " + "c" * 1000}))
    assert words.startswith("HTTP 400: a [31mb [key] ccc")
    assert len(words) < 400
    assert blot("none of the responses", "none") == "none of the responses"  # a placeholder


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35"}, 30.0),
        ({"retry-after": "Fri, 02 Jan 2025 03:04:35 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
    ids=str,
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds
