"""The ranking prompt: what the black-box model is asked, rendered and read back.

The structure is that of the paper's Figure 3 (task, demonstrations, instruction, candidates, form of the
answer); the words are ours. Everything that others wrote (instructions, responses, those of demonstrations
too) is quoted (`quoting`). So no text can pass for a heading, an answer or another response, rendering can be
undone exactly, and the ids that are expected stand outside of all quoted text, at the end. Texts are put
together in one pass; nothing that was inserted is looked at again. A demonstration stays for many prompts, so
texts that so much as imitate this one do not become any (`presentable`).

Leaves out: choosing demonstrations (`demonstrations`), reading the answer (`answers`). The offline judges
read prompts with `parse_ranking_prompt`, like strangers.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cyclealign.method.demonstrations import Demonstration
from cyclealign.method.quoting import BREAK, NOTICE, quoted, sections

_TASK = (
    "You will see an instruction and several responses to it. Order the responses from best to worst by how "
    "harmless and how helpful they are. A harmless response is ethical and respectful, does no damage, and "
    "keeps private and secure what should be. A helpful response is of real use for what the person asked.",
    NOTICE,
)
_EXAMPLES = "For example:"
_YOUR_TURN = "Here are the instruction and the responses that you are asked to rank."
_INSTRUCTION = "### Instruction:"
_RESPONSES = "### Responses:"
_DESIRED_RANKING = re.compile(r"### The desired ranking is: \[([0-9, ]+)\]\.")
_ANSWER = "### Your answer:"
_WRITE = "Then write the assistant's next turn yourself: a more harmless and more helpful response."
_FORM_WITH_REWRITE = (
    'Answer in JSON with the fields "desired rank" and "response", like this: '
    '{"desired rank": [], "response": "your response"}'
)
_FORM_WITHOUT_REWRITE = 'Answer in JSON with the field "desired rank", like this: {"desired rank": []}'
_WORDING = re.compile(
    r"^\W*(instruction:|responses:|response-\d|the desired ranking|your answer:)|desired[ _]rank", re.MULTILINE
)
"""The headings above and the answer's field, in small letters, whatever signs stand before them on their line."""


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """What a ranking prompt says: responses in the order shown, and whether it asks for a rewrite."""

    instruction: str
    responses: tuple[str, ...]
    demonstrations: tuple[Demonstration, ...]
    rewrite: bool


def render_ranking_prompt(
    instruction: str, responses: Sequence[str], demonstrations: Sequence[Demonstration], rewrite: bool = True
) -> str:
    """The prompt that asks for a ranking of the responses and, by default, for a better response.

    Args:
        instruction: The dialogue, open for the assistant's next turn.
        responses: The candidates in the order they are shown; the answer ranks these positions.
        demonstrations: In the order they are shown.
        rewrite: Whether to ask for a response of the black-box model's own.

    Paper: Figure 3.

    Raises:
        ValueError: fewer than two responses.
    """
    if len(responses) < 2:
        raise ValueError(f"Found {len(responses)} responses, expected at least two; fewer need no ranking.")
    return "\n".join(_lines(instruction, responses, demonstrations, rewrite))


def _lines(
    instruction: str, responses: Sequence[str], demonstrations: Sequence[Demonstration], rewrite: bool
) -> Iterator[str]:
    yield from (*_TASK, "")
    if demonstrations:
        yield from (_EXAMPLES, "")
    for shown in demonstrations:
        yield from _case_lines(shown.instruction, shown.responses)
        yield from (f"### The desired ranking is: {list(shown.ranking)}.", "")
    yield from (_YOUR_TURN, "")
    yield from _case_lines(instruction, responses)
    yield _ANSWER
    expected = ", ".join(str(position) for position in range(len(responses)))
    yield f"Rank the responses {expected}: name each of these {len(responses)} numbers once, best first."
    yield from (_WRITE, _FORM_WITH_REWRITE) if rewrite else (_FORM_WITHOUT_REWRITE,)


def _case_lines(instruction: str, responses: Sequence[str]) -> Iterator[str]:
    yield from (_INSTRUCTION, quoted(instruction), _RESPONSES)
    for position, response in enumerate(responses):
        yield from (f"# Response-{position}.", quoted(response))


def imitates_prompt(text: str) -> bool:
    """Whether a text uses the prompt's own wording: a heading, or the field in which a ranking is answered.

    Quoted, such a text does no harm, but it is no example to learn from. Look-alikes that Unicode counts as
    the same characters, and invisible ones between them, do not hide it.
    """
    plain = unicodedata.normalize("NFKC", re.sub(BREAK, "\n", text)).casefold()
    seen = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    return _WORDING.search(seen) is not None


def presentable(instruction: str, candidates: Sequence[str], agreement: Sequence[int]) -> tuple[int, ...]:
    """The agreed candidates that a demonstration may show: none that imitates the prompt (see `imitates_prompt`).

    Where the instruction does, none at all. `agreement` holds ids in `candidates`, best first.
    """
    if imitates_prompt(instruction):
        return ()
    return tuple(candidate for candidate in agreement if not imitates_prompt(candidates[candidate]))


def parse_ranking_prompt(text: str) -> ParsedPrompt:
    """Read back exactly what `render_ranking_prompt` was given.

    Raises:
        ValueError: the text is not such a prompt, to the letter.
    """
    try:
        parsed = _parse(text)
    except ValueError as error:
        raise ValueError(f"The text is not a ranking prompt: {error}") from error
    # The reader above is lenient about everything between the texts; this makes it exact.
    if render_ranking_prompt(parsed.instruction, parsed.responses, parsed.demonstrations, parsed.rewrite) != text:
        raise ValueError("The text is not a ranking prompt: it resembles one, but its wording differs.")
    return parsed


def _parse(text: str) -> ParsedPrompt:
    cases: list[list[str]] = []
    rankings: list[tuple[int, ...]] = []
    for heading, text_below in sections(text):
        if heading == _INSTRUCTION:
            cases.append([text_below or ""])
        elif heading.startswith("# Response-") and cases:
            cases[-1].append(text_below or "")
        elif match := _DESIRED_RANKING.fullmatch(heading):
            rankings.append(tuple(int(position) for position in match[1].split(", ")))
    *shown, asked = cases
    demonstrations = tuple(
        Demonstration(case[0], tuple(case[1:]), ranking) for case, ranking in zip(shown, rankings, strict=True)
    )
    return ParsedPrompt(asked[0], tuple(asked[1:]), demonstrations, text.endswith(_FORM_WITH_REWRITE))
