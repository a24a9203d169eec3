"""Malformed answers by the thousand: none crashes the reader, none is read as what it does not say.

A longer run is `python -m benchmarks.fuzz_answers`.
"""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cyclealign.method.answers import Answer, AnswerRejected, read_ranking_answer
from tests.method.malformed_answers import GOOD, MOST_CANDIDATES, Mutator, near_answers, objection


def read(text: str, candidates: int) -> Answer | None:
    """The answer, checked by the oracle; None when it was rejected as malformed."""
    try:
        answer = read_ranking_answer(text, "stop", None, candidates)
    except AnswerRejected as rejected:
        assert rejected.reason == "malformed"
        return None
    assert objection(text, candidates, answer) is None
    return answer


@settings(max_examples=1000, deadline=None)
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
    for text in GOOD:
        assert any(read(text, candidates) for candidates in (2, 3, 4))


@given(st.integers(1, 9).flatmap(lambda n: st.permutations(range(n))), st.text().filter(str.strip))
def test_every_well_formed_answer_is_read_back(ranking: list[int], rewrite: str) -> None:
    content = json.dumps({"desired rank": ranking, "response": rewrite})
    assert read_ranking_answer(content, "stop", None, len(ranking)) == Answer(tuple(ranking), rewrite.strip())
