"""Dialogues are split and pairs are kept as by Open-Assistant's rule, for any text and for every real pair."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.plain_loop import keeps, read, turns_of
from cyclealign.data.hh_rlhf import DialogueFolder
from cyclealign.settings import DataSettings
from storage import queries
from storage.dialogues import prepare
from storage.ledger import Ledger
from storage.sampling import load_pairs

REAL = os.environ.get("CYCLEALIGN_HH_RLHF")


@pytest.fixture(scope="module")
def macros() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(queries.load("dialogues/macros"))
        yield connection


def answers(
    connection: duckdb.DuckDBPyConnection, expressions: str, dialogues: list[dict[str, str]]
) -> list[tuple[Any, ...]]:
    """SQL expressions of `d`, for many dialogues in one query: to plan it takes longer than to run it."""
    numbered = "select unnest($all) as d, generate_subscripts($all, 1) as place"
    query = f"select {expressions} from ({numbered}) order by place"
    return connection.execute(query, {"all": dialogues}).fetchall()


def pairs_of(turns: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(turn["speaker"], turn["text"]) for turn in turns]


PARAGRAPHS = st.lists(
    st.one_of(
        st.sampled_from(["Human:", "Assistant:", "Human: ", "Assistant: a", "Human:b", "human: c", " Human: d", ""]),
        st.builds(
            "{}{}".format,
            st.sampled_from(["Human:", "Assistant: ", "", "Assistant"]),
            st.text(st.sampled_from("ab \n\t\r\x0b\x1c\x85\xa0\u2003\u2028\u3000é😀'\"$"), max_size=8),
        ),
    ),
    max_size=8,
)


@given(dialogues=st.lists(PARAGRAPHS.map("\n\n".join), min_size=20, max_size=40))
@settings(max_examples=25)
def test_turns_are_open_assistants_for_any_paragraphs(macros: duckdb.DuckDBPyConnection, dialogues: list[str]) -> None:
    found = answers(macros, "turns_of(d.text, exchanges(d.text), false)", [{"text": one} for one in dialogues])
    assert [pairs_of(turns) for (turns,) in found] == [turns_of(one) for one in dialogues]


NEARLY_REGULAR = st.lists(
    st.tuples(
        st.sampled_from(["\n\nHuman: ", "\n\nAssistant: "] * 4 + ["\n\nHuman:", "\n\n", "\n", " "]),
        st.text(st.sampled_from("ab \n\u2028"), max_size=4),
    ),
    max_size=6,
).map(lambda parts: "\n\nHuman: a" + "".join(map("".join, parts)))
ALTERNATING = st.lists(st.text(st.sampled_from("ab \n:"), max_size=5), max_size=6).map(
    lambda texts: "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(texts))
)


@given(dialogues=st.lists(st.one_of(NEARLY_REGULAR, ALTERNATING), min_size=40, max_size=80))
@example(dialogues=["\n\nHuman: a\n\nAssistant: x  \n\ny", "\n\nHuman:  \n\ny \n\n z\n\nAssistant: x\u2028\n\ny "])
@settings(max_examples=50)
def test_the_turns_of_a_regular_dialogue_are_those_of_its_paragraphs(
    macros: duckdb.DuckDBPyConnection, dialogues: list[str]
) -> None:
    ways = [
        f"{name}, {keep})"
        for keep in ("false", "true")
        for name in ("turns_of(d.text, exchanges(d.text)", "turns_by_paragraph(d.text")
    ]
    found = answers(macros, ", ".join(ways), [{"text": one} for one in dialogues])
    for dialogue, row in zip(dialogues, found, strict=True):
        dropped, dropped_by_paragraph, kept, kept_by_paragraph = map(pairs_of, row)
        assert kept == kept_by_paragraph
        assert dropped == dropped_by_paragraph == turns_of(dialogue)


@given(
    pairs=st.lists(
        st.fixed_dictionaries(dict.fromkeys(("chosen", "rejected"), PARAGRAPHS.map("\n\n".join))),
        min_size=30,
        max_size=60,
    )
)
@settings(max_examples=12)
def test_a_pair_is_dropped_by_the_first_three_reasons_exactly_when_open_assistant_drops_it(
    macros: duckdb.DuckDBPyConnection, pairs: list[dict[str, str]]
) -> None:
    turns = ", ".join(f"turns_of(d.{side}, exchanges(d.{side}), false)" for side in ("chosen", "rejected"))
    fault = f"fault_of({turns})"
    dropped = [
        found in ("no_assistant_turn", "different_turns", "not_human_first")
        for (found,) in answers(macros, fault, pairs)
    ]
    assert dropped == [not keeps(one["chosen"], one["rejected"]) for one in pairs]


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("\n\nHuman: a\n\nb\n\nAssistant: c", [("human", "a\n\nb"), ("assistant", "c")]),
        ("Human: a\n\nAssistant: c\n\n\n\n  d ", [("human", "a"), ("assistant", "c\n\n\n\n  d")]),
        ("Human: a\n\nHuman: b\n\nAssistant: c", [("human", "a\nb"), ("assistant", "c")]),
        ("preamble\n\nHuman: a", [(None, "preamble"), ("human", "a")]),
        ("\n\n\n\nHuman: a", [("human", "a")]),
        ("Human: a\n\n\nAssistant: b", [("human", "a\n\n\nAssistant: b")]),
        ("", []),
    ],
    ids=["paragraph", "empty lines", "same speaker", "preamble", "leading lines", "three line breaks", "empty"],
)
def test_a_paragraph_without_a_name_stays_in_its_turn_by_default(
    macros: duckdb.DuckDBPyConnection, text: str, turns: list[tuple[str | None, str]]
) -> None:
    [(found,)] = answers(macros, "turns_of(d.text, exchanges(d.text), true)", [{"text": text}])
    assert pairs_of(found) == turns


@pytest.mark.skipif(not REAL, reason="CYCLEALIGN_HH_RLHF names no folder with HH-RLHF files")
def test_every_real_pair_is_kept_and_split_as_open_assistant_does(ledger: Ledger) -> None:
    folder = Path(str(REAL))
    all_kept = {"drop_identical": False, "drop_empty": False, "drop_duplicates": False}
    prepared = prepare(ledger, DialogueFolder(folder), DataSettings(source="folder", paragraphs="drop", **all_kept))
    found = Counter(
        (pair.prompt.subset, split, tuple((t.speaker, t.text) for t in pair.prompt.turns), pair.chosen, pair.rejected)
        for split in ("train", "test")
        for pair in load_pairs(prepared.folder, split)
    )
    expected = Counter(
        (subset, split, tuple(turns_of(chosen)[:-1]), turns_of(chosen)[-1][1], turns_of(rejected)[-1][1])
        for subset, split, chosen, rejected in read(folder)
        if keeps(chosen, rejected)
    )
    assert found == expected
