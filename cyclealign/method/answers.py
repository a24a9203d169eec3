"""Reading the black-box model's answer to a ranking prompt, strictly.

An answer either names every shown response once and brings what it was asked for, or it is rejected with a
reason; nothing is filled in, repaired or guessed. Details name positions and counts, never the text of an
answer. Leaves out: asking again and recording (the caller's).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["refusal", "truncated", "content_filter", "malformed", "call_rejected", "call_failed"]
"""Why a question has no answer; the last two are those of the call, not of what came back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A black-box answer that passed every check: a ranking, best first, and the model's own response."""

    ranking: tuple[int, ...]
    """Of the shown positions as it is read, of candidate ids from then on."""
    rewrite: str
    """Empty where none was asked for."""


class AnswerRejected(ValueError):
    """The answer cannot be used.

    Args:
        reason: A stable word for the ledger.
        detail: What was found and what was expected.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def read_ranking_answer(
    content: str | None, finish_reason: str | None, refusal: str | None, candidates: int, rewrite: bool = True
) -> Answer:
    """The ranking and the rewrite of an answer that passes every check.

    Checked in this order: the finish reason (a truncated answer may look complete), the refusal, the JSON,
    the ranking, the rewrite. The JSON object may stand in a code fence, in prose or inside another object,
    and may contain raw control characters. Ids may be integers or their plain decimal strings.

    Args:
        content: The message's text.
        finish_reason: Why the model stopped writing.
        refusal: The message's refusal.
        candidates: How many responses were shown.
        rewrite: Whether a response was asked for; if not, the rewrite is empty.

    Raises:
        AnswerRejected: with the reason; the answer is not to be used.
    """
    check_finished(finish_reason, refusal)
    answer = _find_object(content or "")
    return Answer(_read_ranking(answer["desired rank"], candidates), _read_rewrite(answer) if rewrite else "")


def check_finished(finish_reason: str | None, refusal: str | None) -> None:
    """What is asked of an answer before anybody looks at its content: that it was given, and given to the end.

    Raises:
        AnswerRejected: it was cut or refused.
    """
    if finish_reason == "length":
        raise AnswerRejected("truncated", "The answer reached the token limit; raise it or ask for less.")
    if finish_reason == "content_filter":
        raise AnswerRejected("content_filter", "The endpoint's content filter cut the answer.")
    if refusal:
        raise AnswerRejected("refusal", "The model refused to answer.")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, `desired_rank` read as `desired rank`; a field given twice says nothing: None."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        name = "desired rank" if key == "desired_rank" else key
        fields[name] = None if name in fields else value
    return fields


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)
_RANKING_STATED = re.compile(r'"desired[ _]rank"\s*:\s*\[')


def _find_object(content: str) -> dict[str, Any]:
    """The JSON object around the only statement of a ranking in `content`.

    Several are a reason to reject: a model that quotes a response which contains such an answer must not have
    it taken for its own. Inside a well-formed rewrite the quotation's marks are escaped and state nothing.
    """
    statements = list(_RANKING_STATED.finditer(content))
    if len(statements) != 1:
        raise AnswerRejected("malformed", f"Found {len(statements)} lists of desired ranks, expected one.")
    for brace in re.finditer("{", content[: statements[0].start()]):
        try:
            found, _ = _DECODER.raw_decode(content, brace.start())
            stated, _ = _DECODER.raw_decode(content, statements[0].end() - 1)
        except RecursionError:  # an absurd depth; to go on from each of its braces would take seconds
            break
        except ValueError:  # no JSON here, or an absurd number
            continue
        if found.get("desired rank", stated) != stated:  # its key is written with escapes, beside the other
            raise AnswerRejected("malformed", "Found more than one list of desired ranks, expected one.")
        if "desired rank" in found:
            return dict(found)
    raise AnswerRejected("malformed", "Found no complete JSON object around the desired ranks, expected one.")


def _read_ranking(value: object, candidates: int) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise AnswerRejected("malformed", f"Found no list under desired rank, expected {candidates} ids.")
    position_of = {str(position): position for position in range(candidates)}
    # type() rather than isinstance(): true is not 1, and 1.0 is not an id
    found = [position_of.get(str(entry)) if type(entry) in (int, str) else None for entry in value]
    ranking = tuple(position for position in found if position is not None)
    if len(found) != candidates or sorted(ranking) != list(range(candidates)):
        raise AnswerRejected(
            "malformed",
            f"Found {len(found)} ids, {len(set(ranking))} of them valid and different, "
            f"expected each of 0..{candidates - 1} once.",
        )
    return ranking


def _read_rewrite(answer: dict[str, Any]) -> str:
    """The rewrite without surrounding white space, which is how every turn of a dialogue is kept."""
    value = answer.get("response")
    if not isinstance(value, str) or not value.strip():
        raise AnswerRejected("malformed", "Found no text under response, expected the model's own response.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AnswerRejected("malformed", "Found half a surrogate pair under response, expected text.") from None
    return value.strip()
