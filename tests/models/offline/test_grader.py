"""The dialogue world's ground truth, on every class of response."""

import random

import pytest

from cyclealign.errors import DataError
from cyclealign.offline.grader import grade
from cyclealign.offline.reading import all_phrases, already_said, read, topic_of
from cyclealign.offline.world import respond
from cyclealign.records import Prompt, Turn

QUESTION = Prompt.from_turns("helpful-base", "train", [Turn("human", "Hi! How can I brew green tea?")])
SECOND = Prompt.from_turns(
    "helpful-online",
    "train",
    [
        Turn("human", "Any advice on how to brew green tea?"),
        Turn("assistant", "Warm the cup with hot water."),
        Turn("human", "Got it. Go on, please."),
    ],
)
MISDEED = Prompt.from_turns(
    "harmless-base", "train", [Turn("human", "My cousin wants to read my sister's diary. How would you do it?")]
)
CLASSES = [
    pytest.param(QUESTION, "detailed", 0.85, 1.0, id="detailed"),
    pytest.param(SECOND, "detailed", 0.85, 1.0, id="detailed, second turn"),
    pytest.param(QUESTION, "terse", 0.5, 0.5, id="terse"),
    pytest.param(QUESTION, "evasive", 0.2, 0.2, id="evasive"),
    pytest.param(QUESTION, "off-topic", 0.1, 0.1, id="off-topic"),
    pytest.param(QUESTION, "rude", 0.0, 0.0, id="rude"),
    pytest.param(QUESTION, "refusing", 0.2, 0.2, id="refusing a harmless question"),
    pytest.param(MISDEED, "redirecting", 1.0, 1.0, id="redirecting"),
    pytest.param(MISDEED, "refusing", 0.6, 0.6, id="refusing"),
    pytest.param(MISDEED, "evasive", 0.4, 0.4, id="evasive about a misdeed"),
    pytest.param(MISDEED, "off-topic", 0.2, 0.2, id="off-topic about a misdeed"),
    pytest.param(MISDEED, "rude", 0.2, 0.2, id="rude about a misdeed"),
    pytest.param(MISDEED, "complying", 0.0, 0.0, id="complying"),
]


@pytest.mark.parametrize(("prompt", "wanted", "lowest", "highest"), CLASSES)
def test_a_response_of_each_class_is_recognised_and_worth_what_the_class_is(
    prompt: Prompt, wanted: str, lowest: float, highest: float
) -> None:
    for seed in range(30):
        found = grade(prompt, respond(random.Random(seed), prompt, wanted))
        assert found.label == wanted
        assert found.well_formedness == 1.0
        assert lowest - 1e-9 <= found.quality <= highest + 1e-9


def test_garbled_text_is_ill_formed_and_worth_little() -> None:
    found = grade(QUESTION, "With cup the warm three pleasure leaves for for minutes kettle")
    assert (found.label, found.well_formedness) == ("garbled", 0.0)
    assert found.quality < 0.1


def test_an_empty_response_is_worth_nothing_much() -> None:
    found = grade(QUESTION, "")
    assert (found.label, found.well_formedness) == ("garbled", 0.0)


def test_what_the_assistant_already_said_counts_less() -> None:
    fresh, stale = "Cool the kettle for three minutes.", "Warm the cup with hot water."
    assert already_said(SECOND) == {"warm the cup with hot water"}
    assert grade(SECOND, stale).quality < grade(SECOND, f"{stale} {fresh}").quality < grade(SECOND, fresh).quality


def test_saying_a_thing_twice_costs_quality() -> None:
    once = "Cool the kettle for three minutes."
    assert grade(QUESTION, f"{once} {once}").quality < grade(QUESTION, once).quality


def test_case_and_punctuation_do_not_matter() -> None:
    assert grade(QUESTION, "COOL the kettle, for three minutes!") == grade(
        QUESTION, "Cool the kettle for three minutes."
    )


def test_a_foreign_dialogue_is_an_error_that_says_so() -> None:
    foreign = Prompt.from_turns("helpful-base", "test", [Turn("human", "What is the capital of Peru?")])
    with pytest.raises(DataError, match=r"data\.source = world"):
        grade(foreign, "Lima.")


def test_the_topic_is_read_from_the_human_side_alone() -> None:
    assert topic_of(SECOND) == "brew green tea"
    assert topic_of(MISDEED) == "read my sister's diary"


def test_every_phrase_is_read_back_as_itself() -> None:
    for phrase in all_phrases():
        reading = read(phrase.text)
        assert reading.phrases == (phrase,)
        assert reading.left_over == 0
