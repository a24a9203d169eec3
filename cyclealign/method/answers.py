"""Reading the black-box model's answer to a ranking prompt, strictly.

An answer either names every shown response once and brings what it was asked for, or it is rejected with a
reason; nothing is filled in, repaired or guessed. Details name positions and counts, never the text of an
answer. Leaves out: asking again and recording (the caller's).
"""

import json
import re
import unicodedata
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
        again: Whether another ask may bring another answer.
    """

    def __init__(self, reason: Reason, detail: str, again: bool = True) -> None:
        super().__init__(reason, detail, again)
        self.reason: Reason = reason
        self.detail = detail
        self.again = again

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def read_ranking_answer(
    content: str | None, finish_reason: str | None, refusal: str | None, candidates: int, rewrite: bool = True
) -> Answer:
    """The ranking and the rewrite of an answer that passes every check.

    Checked in this order: the finish reason (a truncated answer may look complete), the refusal, the JSON,
    the ranking, the rewrite. Thoughts do not count. The JSON object may stand in a code fence, in prose or inside
    another object, and may contain raw control characters and trailing commas. A ranking may be spelled in any way that
    names each shown response once, by its number: `[2, 0, 1]`, `["Response-2", …]`, `"2 > 0 > 1"`.

    Args:
        content: The message's text.
        finish_reason: Why the model stopped writing.
        refusal: The message's refusal.
        candidates: How many responses were shown.
        rewrite: Whether a response was asked for; if not, the rewrite is empty.

    Raises:
        AnswerRejected: with the reason; the answer is not to be used.
    """
    answer = _find_object(spoken(content, finish_reason, refusal))
    return Answer(_read_ranking(answer["desired rank"], candidates), _read_rewrite(answer) if rewrite else "")


def spoken(content: str | None, finish_reason: str | None, refusal: str | None) -> str:
    """What an answer says besides its thoughts, once it is known that it was given, and given to the end.

    Raises:
        AnswerRejected: it was cut or refused, or is a call of a tool.
    """
    if finish_reason == "length":
        raise AnswerRejected("truncated", "The answer reached the token limit; raise it or ask for less.")
    if finish_reason == "content_filter":
        raise AnswerRejected("content_filter", "The endpoint's content filter cut the answer.")
    if refusal:
        raise AnswerRejected("refusal", "The model refused to answer.")
    if finish_reason in ("tool_calls", "function_call") and not (content or "").strip():
        raise AnswerRejected("malformed", "Found the call of a tool and no text, expected an answer.", again=False)
    return without_thoughts(content or "")


def without_thoughts(text: str) -> str:
    """A text without what stands between `<think>` or `<thinking>` and its end, in each other too.

    What precedes an end without a beginning is thought as well (templates may begin it), and what follows a beginning
    without an end.
    """
    said, depth, last = list[str](), 0, 0
    for tag in _THOUGHT.finditer(text):
        ends = bool(tag[1])
        if ends and depth == 0:
            said.clear()
        elif depth == 0:
            said.append(text[last : tag.start()])
        depth = max(0, depth + (-1 if ends else 1))
        last = tag.end()
    return "".join(said) + ("" if depth else text[last:])


def refuse_copy(answer: Answer, instruction: str, candidates: Sequence[str]) -> None:
    """Refuse a rewrite that is the prompt again, or a candidate that the same answer does not rank best.

    Args:
        answer: Its ranking names indices of `candidates`.
        instruction: The dialogue as the prompt showed it.
        candidates: Their texts.

    Raises:
        AnswerRejected: it is such a copy.
    """
    rewrite = _squeezed(answer.rewrite)
    turns = [_squeezed(turn) for turn in _TURN.split(instruction)]
    if rewrite and rewrite in (_squeezed(instruction), *turns):
        raise AnswerRejected("malformed", "Found a copy of the prompt under response, expected a response of its own.")
    ranked = [_squeezed(candidates[position]) for position in answer.ranking]
    if rewrite and rewrite in ranked[1:] and rewrite != ranked[0]:
        place = ranked.index(rewrite)
        raise AnswerRejected(
            "malformed", f"Found the response ranked {place} again under response, expected a better one."
        )


_THOUGHT = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)\s*>", re.IGNORECASE)
_TURN = re.compile(r"(?:^|\n\n)(?:Human|Assistant):\s*")
_RANKINGS = frozenset({"desired rank", "desired ranking", "ranking"})


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object with the names of its fields in one form; a field given twice says nothing: None."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        name = re.sub(r"[\s_-]+", " ", key).strip().casefold()
        fields[name] = None if name in fields else value
    return fields


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)
_DESIRED = re.compile(r'"desired[ _-]?rank(?:ing)?"\s*:\s*(?=["\[])', re.IGNORECASE)
_RANKING = re.compile(r'"ranking"\s*:\s*(?=["\[])', re.IGNORECASE)
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[\]}])', re.DOTALL)


def _find_object(content: str) -> dict[str, Any]:
    """The JSON object around the only statement of a ranking in `content`, the ranking under `desired rank`.

    Several are a reason to reject: a model that quotes a response which contains such an answer must not have
    it taken for its own. Inside a well-formed rewrite the quotation's marks are escaped and state nothing.
    """
    content = _TRAILING_COMMA.sub(lambda found: found[1] or "", content)
    statements = list(_DESIRED.finditer(content)) or list(_RANKING.finditer(content))
    if len(statements) != 1:
        raise AnswerRejected("malformed", f"Found {len(statements)} lists of desired ranks, expected one.")
    for brace in re.finditer("{", content[: statements[0].start()]):
        try:
            found, _ = _DECODER.raw_decode(content, brace.start())
            stated, _ = _DECODER.raw_decode(content, statements[0].end())
        except RecursionError:  # an absurd depth; to go on from each of its braces would take seconds
            break
        except ValueError:  # no JSON here, or an absurd number
            continue
        named = [name for name in _RANKINGS & found.keys() if name != "ranking" or len(_RANKINGS & found.keys()) == 1]
        if any(found[name] != stated for name in named):  # a key written with escapes, beside the other
            raise AnswerRejected("malformed", "Found more than one list of desired ranks, expected one.")
        if named:
            return {**found, "desired rank": stated}
    raise AnswerRejected("malformed", "Found no complete JSON object around the desired ranks, expected one.")


_ID = re.compile(r"(?:(?:response|candidate)[\s#_-]*)?(0|[1-9][0-9]?)(?:\.0+)?\.?", re.IGNORECASE)


def _read_ranking(value: object, candidates: int) -> tuple[int, ...]:
    entries = value
    if isinstance(value, str):
        entries = re.split("[>,;]", value) if re.search("[>,;]", value) else value.split()
    if not isinstance(entries, list):
        raise AnswerRejected("malformed", f"Found no list under desired rank, expected {candidates} ids.")
    # type() rather than isinstance(): true is not 1
    names = [_ID.fullmatch(str(entry).strip()) if type(entry) in (int, float, str) else None for entry in entries]
    ranking = tuple(int(name[1]) for name in names if name and int(name[1]) < candidates)
    if len(names) != candidates or sorted(ranking) != list(range(candidates)):
        raise AnswerRejected(
            "malformed",
            f"Found {len(names)} ids, {len(set(ranking))} of them valid and different, "
            f"expected each of 0..{candidates - 1} once.",
        )
    return ranking


_SPEAKER = re.compile(r"\s*[#*_]*\s*(?:assistant|response(?:[- ]?[0-9]+)?)\s*[*_]*\s*:[*_\s]*", re.IGNORECASE)
_OTHER_SPEAKER = re.compile(r"(?:^|\n)[\s#*_]*(?:human|user)\s*[*_]*:", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"[.…]+|\W*(?:your\s+(?:own\s+)?response|response(?:[- ]?[0-9]+)?|text|string|n/a|none|null)\W*", re.IGNORECASE
)


def _read_rewrite(answer: dict[str, Any]) -> str:
    """The rewrite without surrounding white space, which is how every turn of a dialogue is kept.

    The speaker's mark at its beginning is no part of it, and where it goes on as the other speaker it ends.
    """
    value = answer.get("response")
    if not isinstance(value, str):
        raise AnswerRejected("malformed", "Found no text under response, expected the model's own response.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AnswerRejected("malformed", "Found half a surrogate pair under response, expected text.") from None
    value = without_thoughts(value)  # again: their marks may have been written with escapes
    while mark := _SPEAKER.match(value):
        value = value[mark.end() :]
    other = _OTHER_SPEAKER.search(value)
    value = (value[: other.start()] if other else value).strip()
    if not any(unicodedata.category(character)[0] in "LNPS" for character in value):
        raise AnswerRejected("malformed", "Found no visible text under response, expected the model's own response.")
    if _PLACEHOLDER.fullmatch(value):
        raise AnswerRejected("malformed", "Found a placeholder under response, expected the model's own response.")
    return value
