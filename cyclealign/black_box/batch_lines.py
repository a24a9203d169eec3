"""The lines of a batch's output files: which call each belongs to, and what it came to.

A line is read like the answer to a call that was sent alone (`black_box.read_reply`). Lines come in any order.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cyclealign.black_box.endpoint import read_reply
from cyclealign.black_box.failures import FILTER_CODES, TRANSIENT_KINDS
from cyclealign.errors import CallFailed, CallRejected, CallTransient
from cyclealign.records import ChatReply


def answer_lines(texts: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The lines of these files by the id that we gave their calls; a line that is no JSON object is nobody's."""
    lines: dict[str, Mapping[str, Any]] = {}
    for text in texts:
        for line in text.split("\n"):  # not splitlines: answers may hold other line breaks
            try:
                found = json.loads(line, strict=False)
            except ValueError:
                continue
            if isinstance(found, dict):
                lines[str(found.get("custom_id"))] = found
    return lines


def outcome_of(line: Mapping[str, Any] | None, status: str) -> ChatReply | CallFailed:
    """What one call of a batch came to; without a line the batch ended (`status`) before its turn, unpaid."""
    response = _mapping(line).get("response")
    if not isinstance(response, dict):
        words = _words(_mapping(_mapping(line).get("error")))
        return CallTransient(f"The batch is {status} and has no answer to this call. {words}".strip(), kind="no_answer")
    if response.get("status_code") == 200:
        return _reply(response.get("body"))
    return _failure(response)


def _reply(body: Any) -> ChatReply | CallFailed:
    try:
        return read_reply(json.dumps(body, ensure_ascii=False))
    except CallTransient as error:
        return error


def _failure(response: Mapping[str, Any]) -> CallFailed:
    status, error = response.get("status_code"), _mapping(_mapping(response.get("body")).get("error"))
    code = status if isinstance(status, int) else 0
    words = f"HTTP {code}: {_words(error)}"
    if {str(error.get("code")), str(error.get("type"))} & FILTER_CODES:
        return CallRejected(words, kind="content_filter", http_status=code)
    if code in TRANSIENT_KINDS or not 400 <= code < 500:
        return CallTransient(words, kind=TRANSIENT_KINDS.get(code, "server_error"), http_status=code)
    return CallRejected(words, kind="bad_request", http_status=code)


def _words(error: Mapping[str, Any]) -> str:
    return " ".join(str(error.get(name) or "") for name in ("code", "message")).strip()[:300]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
