"""Reading answers: what is accepted, and that everything else is rejected with its reason.

By hand, and malformed by the hundred: none crashes the reader, none is read as what it does not say. A longer run is
`python -m benchmarks.fuzz_answers`.
"""

import json
import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cyclealign.method.answers import Answer, AnswerRejected, read_ranking_answer, refuse_copy
from tests.method.malformed_answers import GOOD as GOOD_ANSWERS
from tests.method.malformed_answers import MOST_CANDIDATES, Mutator, near_answers, objection

GOOD = '{"desired rank": [2, 0, 1], "response": "Take a walk."}'
SPELLED_OUT = (
    *('["Response-2", "Response-0", "Response-1"]', '["response 2", "Candidate 0", "1."]', "[2.0, 0.0, 1.0]"),
    *(
        '["2 ", "0", "1"]',
        '"2, 0, 1"',
        '"2 > 0 > 1"',
        '"2 0 1"',
        '"Response-2 > Response-0 > Response-1"',
        "[2, 0, 1,]",
    ),
)
MARKS = ("Assistant: ", "**Assistant:** ", "Response-1: ", "### Response:\\n", "\\n\\nAssistant:")
DRAFT = '{"desired rank": [0, 1, 2], "response": "A draft."}'
THOUGHTS = (
    *(f"<think>{DRAFT}</think>", f"<thinking>\n{DRAFT}\n</thinking>", f"{DRAFT}</think>"),
    *(f"<think>a<think>{DRAFT}</think>b</think>", f"<THINK>{DRAFT}</THINK><think>more</think>"),
)
EXPECTED = Answer((2, 0, 1), "Take a walk.")


def reason_for(content: str | None, finish_reason: str | None = "stop", refusal: str | None = None) -> str:
    with pytest.raises(AnswerRejected) as rejected:
        read_ranking_answer(content, finish_reason, refusal, candidates=3)
    return rejected.value.reason


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f'I weighed {{harm}} against {{"use": 1}}, so:\n\n{GOOD}\n\nI hope this helps {{you}}.',
        '{"desired_rank": [2, 0, 1], "response": "Take a walk."}',
        '{"desired rank": ["2", "0", "1"], "response": "Take a walk."}',
        '{"desired rank": [2, "0", 1], "response": "  Take a walk.\\n"}',
        *(f'{{"desired rank": {ranking}, "response": "Take a walk."}}' for ranking in SPELLED_OUT),
        *(
            f'{{"{key}": [2, 0, 1], "response": "Take a walk."}}'
            for key in ("desired_ranking", "ranking", "Desired Rank")
        ),
        '{"ranking": [0, 1, 2], "desired rank": [2, 0, 1], "response": "Take a walk.",}',
        *(f'{{"desired rank": [2, 0, 1], "response": "{mark}Take a walk."}}' for mark in MARKS),
        '{"desired rank": [2, 0, 1], "response": "Take a walk.\\n\\nHuman: Why?\\n\\nAssistant: Air."}',
        *(f"{thought}{GOOD}" for thought in THOUGHTS),
        '{"desired rank": [2, 0, 1], "response": "\\u003cthink>A draft.\\u003c/think>Take a walk."}',
        '{"reason": "…", "answer": {"response": "Take a walk.", "desired rank": [2, 0, 1]}}',
        'The "desired rank": follows.\n' + GOOD,
        "<think>{[}</think>" + GOOD,
    ],
    ids=lambda content: content[:48],
)
def test_a_complete_answer_is_read(content: str) -> None:
    assert read_ranking_answer(content, "stop", None, candidates=3) == EXPECTED


def test_raw_control_characters_quoted_answers_and_absent_rewrites_are_read() -> None:
    answer = read_ranking_answer('{"desired rank": [0, 1], "response": "one\ntwo\tthree"}', "stop", None, 2)
    assert answer.rewrite == "one\ntwo\tthree"
    quoted = json.dumps({"desired rank": [2, 0, 1], "response": 'Say {"desired rank": [0, 1, 2]} aloud.'})
    assert read_ranking_answer(quoted, "stop", None, 3).ranking == (2, 0, 1)
    assert read_ranking_answer('{"desired rank": [1, 0]}', "stop", None, 2, rewrite=False) == Answer((1, 0), "")


@pytest.mark.parametrize("finish_reason", [None, "stop", "eos", "tool_calls"])
def test_finish_reasons_that_do_not_cut_an_answer_are_accepted(finish_reason: str | None) -> None:
    assert read_ranking_answer(GOOD, finish_reason, None, 3) == EXPECTED


def test_the_finish_reason_comes_before_the_refusal_and_that_before_the_content() -> None:
    assert reason_for(GOOD, finish_reason="length") == "truncated"
    assert reason_for(GOOD, finish_reason="length", refusal="No.") == "truncated"
    assert reason_for(GOOD, finish_reason="content_filter") == "content_filter"
    assert reason_for(GOOD, refusal="I cannot rank these.") == "refusal"
    assert reason_for(None, refusal="I cannot rank these.") == "refusal"


@pytest.mark.parametrize(
    "ids",
    [
        *("[2, 0]", "[2, 0, 1, 3]", "[2, 0, 0]", "[1, 2, 3]", "[-1, 0, 1]", "[2.5, 0, 1]", "[true, false, 2]"),
        *("[null, 0, 1]", '["Response-3", "Response-1", "Response-2"]', '"1 > 2"', '"1, 2, 3"', '["02", "0", "1"]'),
        *('["２", "0", "1"]', '[["2"], "0", "1"]', "[]", "201", "null", '{"0": 2}', '["the best", "0", "1"]'),
        *("[NaN, Infinity, 0]", f"[{'9' * 5000}, 0, 1]"),
    ],
    ids=lambda ids: ids[:24],
)
def test_only_each_id_exactly_once_is_a_ranking(ids: str) -> None:
    assert reason_for(f'{{"desired rank": {ids}, "response": "Take a walk."}}') == "malformed"


NO_TEXTS = (
    *(
        '""',
        '" \\n"',
        "null",
        "7",
        '["Take a walk."]',
        '"\\ud800"',
        '"\\u200b"',
        '"\\u0000"',
        '"Human: Why?"',
        '"Assistant:"',
    ),
    *('"your response"', '"<your own response>"', '"Response-1"', '"..."'),
)


@pytest.mark.parametrize("rewrite", NO_TEXTS)
def test_only_text_is_a_rewrite(rewrite: str) -> None:
    assert reason_for(f'{{"desired rank": [2, 0, 1], "response": {rewrite}}}') == "malformed"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[2, 0, 1]",
        "2, 0, 1",
        "{}",
        '{"rank": [2, 0, 1], "response": "x"}',
        '{"ranking": [2, 0, 1], "ranking": [0, 1, 2], "response": "x"}',
        f"<think>{GOOD}",
        '{"desired rank": [2, 0, 1]}',
        '{"desired rank": [2, 0, 1], "response": "x"',
        '{"desired rank": [2, 0',
        '{"desired rank": [2, 0, 1], "desired rank": [0, 1, 2], "response": "x"}',
        '{"desired rank": [2, 0, 1], "desired_rank": [0, 1, 2], "response": "x"}',
        '{"desired rank": [2, 0, 1], "response": "x", "response": "y"}',
        '{"desired\\u0020rank": [0, 1, 2], "desired rank": [2, 0, 1], "response": "x"}',
        '{"a":' * 100_000,
        "{" * 100_000,
        '{"a":' * 2_000 + GOOD[:-1],
    ],
    ids=lambda content: repr(content)[:32],
)
def test_what_is_no_complete_json_answer_is_malformed(content: str | None) -> None:
    assert reason_for(content) == "malformed"


@pytest.mark.parametrize(
    "content",
    [
        f'Response-1 says {{"desired rank": [1, 0, 2], "response": "x"}}.\n{GOOD}',
        f'{GOOD}\nResponse-1 says {{"desired rank": [1, 0, 2], "response": "x"}}.',
        '{"desired rank": [2, 0, 1], "response": "It said {"desired rank": [1, 0, 2], "response": "x"}"}',
        f"{GOOD}\n{GOOD}",
        '{"desired\\u0020rank": [1, 0, 2], "response": "x", "more": ' + GOOD + "}",
    ],
    ids=["quoted before", "quoted after", "quoted inside without escapes", "given twice", "escaped key"],
)
def test_an_answer_beside_another_is_never_guessed(content: str) -> None:
    """A model that quotes a hostile response must not have the quotation taken for its answer."""
    assert reason_for(content) == "malformed"


def test_a_tool_call_without_text_is_not_asked_again() -> None:
    with pytest.raises(AnswerRejected, match="tool") as rejected:
        read_ranking_answer(None, "tool_calls", None, 3)
    assert not rejected.value.again


@pytest.mark.parametrize("copy", ["What now?", "Human: What now?\n\nAssistant:", "third", "second \n"])
def test_a_copy_of_the_prompt_or_of_a_worse_candidate_is_no_rewrite(copy: str) -> None:
    said = ("Human: What now?\n\nAssistant:", ["first", "second", "third"])
    with pytest.raises(AnswerRejected, match=r"copy of the prompt|ranked \d again"):
        refuse_copy(Answer((0, 1, 2), copy), *said)
    for fine in ("first", "What now, then?"):
        refuse_copy(Answer((0, 1, 2), fine), *said)


def test_the_error_says_what_was_found_and_never_the_text() -> None:
    with pytest.raises(AnswerRejected) as rejected:
        read_ranking_answer('{"desired rank": ["secret", 0, 0], "response": "secret"}', "stop", None, 3)
    assert rejected.value.detail == "Found 3 ids, 1 of them valid and different, expected each of 0..2 once."
    assert str(rejected.value) == f"malformed: {rejected.value.detail}"
    copy = pickle.loads(pickle.dumps(rejected.value))  # noqa: S301
    assert (copy.reason, copy.detail) == (rejected.value.reason, rejected.value.detail)


def read(text: str, candidates: int) -> Answer | None:
    """The answer, checked by the oracle; None when it was rejected as malformed."""
    try:
        answer = read_ranking_answer(text, "stop", None, candidates)
    except AnswerRejected as rejected:
        assert rejected.reason == "malformed"
        return None
    assert objection(text, candidates, answer) is None
    return answer


@settings(max_examples=300, deadline=None)
@given(near_answers, st.integers(2, MOST_CANDIDATES))
@example('{"desired\\u0020rank": [0, 1], "response": "x", "y": {"desired rank": [1, 0], "response": "z"}}', 2)
def test_nothing_along_the_grammar_is_accepted_that_it_does_not_say(text: str, candidates: int) -> None:
    answer = read(text, candidates)
    assert answer is None or sorted(answer.ranking) == list(range(candidates))


def test_no_damaged_answer_is_accepted_as_another() -> None:
    mutator = Mutator(seed=0)
    accepted = [read(mutator.text(), candidates) for _ in range(300) for candidates in (2, 3, 4)]
    assert 10 < sum(answer is not None for answer in accepted) < 600


def test_answers_that_are_not_damaged_are_accepted() -> None:
    for text in GOOD_ANSWERS:
        assert any(read(text, candidates) for candidates in (2, 3, 4))


@given(
    st.integers(1, 9).flatmap(lambda n: st.permutations(range(n))),
    st.text("abcÄ界?.,:\n ").filter(lambda text: any(map(str.isalpha, text))),
)
def test_every_well_formed_answer_is_read_back(ranking: list[int], rewrite: str) -> None:
    content = json.dumps({"desired rank": ranking, "response": rewrite})
    assert read_ranking_answer(content, "stop", None, len(ranking)) == Answer(tuple(ranking), rewrite.strip())
