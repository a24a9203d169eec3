"""The filter keeps what Open-Assistant's rule keeps, counts every drop, and names broken files."""

import dataclasses
import gzip
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.open_assistant import keeps, read_files, turns_of, write_files
from cyclealign.errors import DataError, StorageFull
from cyclealign.records import SUBSETS, PreferencePair, Turn, prompt_id, render_dialogue
from storage import dialogues, queries
from storage.dialogues import FilterOptions, FolderSource, PreparedDialogues, TableSource, prepare
from storage.ledger import Ledger
from storage.sampling import load_pairs
from tests.full_disk import files_up_to

ONE = ("harmless-base",)
GOOD = ("\n\nHuman: hi\n\nAssistant: hello", "\n\nHuman: hi\n\nAssistant: go away")
REAL = os.environ.get("CYCLEALIGN_HH_RLHF")
ALL_KEPT = FilterOptions(drop_identical=False, drop_empty=False, drop_duplicates=False)


@pytest.fixture(scope="module")
def macros() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(queries.load("dialogues/macros"))
        yield connection


def test_a_full_disk_leaves_nothing_behind_and_the_next_time_all_is_prepared(
    ledger: Ledger, tmp_path: Path
) -> None:
    rows = source(tmp_path / "hh", [numbered(number) for number in range(3_000)])
    with ledger.session():
        pass
    with pytest.raises(StorageFull, match="File too large"), files_up_to(4_096):
        prepare(ledger, rows, FilterOptions())
    assert list((ledger.home / "data").iterdir()) == []
    assert len(kept(prepare(ledger, rows, FilterOptions()))) == 3_000


def numbered(number: int) -> tuple[str, str]:
    return (f"Human: q{number}\n\nAssistant: good {number}", f"Human: q{number}\n\nAssistant: bad {number}")


def source(folder: Path, train: Sequence[object], test: Sequence[object] = (GOOD,)) -> FolderSource:
    return FolderSource(write_files(folder, {"harmless-base/train": train, "harmless-base/test": test}), ONE)


def counts(ledger: Ledger, prepared: PreparedDialogues, split: str = "train") -> dict[str, int]:
    rows = dialogues.drops(ledger, prepared.dataset_digest)
    return {row["reason"]: row["pairs_dropped"] for row in rows if row["split"] == split}


def turns_in(pair: PreferencePair) -> tuple[tuple[str, str], ...]:
    return tuple((turn.speaker, turn.text) for turn in pair.prompt.turns)


def kept(prepared: PreparedDialogues, split: Any = "train") -> list[str]:
    return sorted(pair.chosen for pair in load_pairs(prepared.folder, split))


def parsed(connection: duckdb.DuckDBPyConnection, text: str, keep: bool) -> list[tuple[str | None, str]]:
    row = connection.execute("select turns_of($text, $keep)", {"text": text, "keep": keep}).fetchone()
    assert row is not None
    return [(turn["speaker"], turn["text"]) for turn in row[0]]


PARAGRAPHS = st.lists(
    st.one_of(
        st.sampled_from(
            ["Human:", "Assistant:", "Human: ", "Assistant: a", "Human:b", "human: c", " Human: d", ""]
        ),
        st.builds(
            "{}{}".format,
            st.sampled_from(["Human:", "Assistant: ", "", "Assistant"]),
            st.text(st.sampled_from("ab \n\t\r\x0b\x1c\x85\xa0\u2003\u2028\u3000é😀'\"$"), max_size=8),
        ),
    ),
    max_size=8,
)


@given(paragraphs=PARAGRAPHS)
@settings(max_examples=150, deadline=None)
def test_turns_are_open_assistants_for_any_paragraphs(
    macros: duckdb.DuckDBPyConnection, paragraphs: list[str]
) -> None:
    text = "\n\n".join(paragraphs)
    assert parsed(macros, text, keep=False) == turns_of(text)


NEARLY_REGULAR = st.lists(
    st.tuples(
        st.sampled_from(["\n\nHuman: ", "\n\nAssistant: "] * 4 + ["\n\nHuman:", "\n\n", "\n", " "]),
        st.text(st.sampled_from("ab \n\u2028"), max_size=4),
    ),
    max_size=6,
).map(lambda parts: "\n\nHuman: a" + "".join(map("".join, parts)))
ALTERNATING = st.lists(st.text(st.sampled_from("ab \n:"), max_size=5), max_size=6).map(
    lambda texts: "".join(
        f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(texts)
    )
)


@given(dialogue=st.one_of(NEARLY_REGULAR, ALTERNATING), keep=st.booleans())
@example(dialogue="\n\nHuman: a\n\nAssistant: x  \n\ny", keep=True)
@example(dialogue="\n\nHuman:  \n\ny \n\n z\n\nAssistant: x\u2028\n\ny ", keep=True)
@settings(max_examples=500, deadline=None)
def test_the_turns_of_a_regular_dialogue_are_those_of_its_paragraphs(
    macros: duckdb.DuckDBPyConnection, dialogue: str, keep: bool
) -> None:
    query = "select turns_by_paragraph($text, $keep)"
    [(by_paragraph,)] = macros.execute(query, {"text": dialogue, "keep": keep}).fetchall()
    assert parsed(macros, dialogue, keep) == [(turn["speaker"], turn["text"]) for turn in by_paragraph]
    if not keep:
        assert parsed(macros, dialogue, keep) == turns_of(dialogue)


@pytest.mark.parametrize(
    ("dialogue", "quick"),
    [
        ("\n\nHuman: a\n\nb\n\nAssistant: c", True),
        ("\n\nHuman: a\n\nAssistant: c\n\nHuman: d", True),
        ("Human: a\n\nAssistant: c", False),
        ("\n\nHuman: a\n\nAssistant:", False),
        ("\n\nHuman: a\n\n\nAssistant: c", False),
        ("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c", False),
        ("\n\nHuman: a\n\nHuman: b\n\nAssistant: c", False),
    ],
)
def test_only_dialogues_in_the_usual_form_go_the_quick_way(
    macros: duckdb.DuckDBPyConnection, dialogue: str, quick: bool
) -> None:
    query = "select is_regular($text) and alternates(exchanges($text))"
    assert macros.execute(query, {"text": dialogue}).fetchall() == [(quick,)]


@given(first=PARAGRAPHS, second=PARAGRAPHS)
@settings(max_examples=150, deadline=None)
def test_a_pair_is_dropped_by_the_first_three_reasons_exactly_when_open_assistant_drops_it(
    macros: duckdb.DuckDBPyConnection, first: list[str], second: list[str]
) -> None:
    chosen, rejected = "\n\n".join(first), "\n\n".join(second)
    row = macros.execute(
        "select fault_of(turns_of($chosen, false), turns_of($rejected, false), false, false)",
        {"chosen": chosen, "rejected": rejected},
    ).fetchone()
    assert row is not None
    dropped = row[0] in ("no_assistant_turn", "different_turns", "not_human_first")
    assert dropped == (not keeps(chosen, rejected))


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
    ids=[
        "paragraph",
        "empty lines",
        "same speaker",
        "preamble",
        "leading lines",
        "three line breaks",
        "empty",
    ],
)
def test_a_paragraph_without_a_name_stays_in_its_turn_by_default(
    macros: duckdb.DuckDBPyConnection, text: str, turns: list[tuple[str | None, str]]
) -> None:
    assert parsed(macros, text, keep=True) == turns


def test_prompts_are_rendered_and_named_as_everywhere_else(tmp_path: Path, ledger: Ledger) -> None:
    text = "\n\nHuman: ä 😀\n\nmore\n\nAssistant: b\n\nHuman: c'\"\n\nAssistant: "
    prepared = prepare(ledger, source(tmp_path, [(f"{text}yes", f"{text}no")]), FilterOptions())
    [pair] = load_pairs(prepared.folder, "train")
    turns = (Turn("human", "ä 😀\n\nmore"), Turn("assistant", "b"), Turn("human", "c'\""))
    assert pair.prompt.turns == turns
    assert pair.prompt.prompt_id == prompt_id(turns)
    assert (pair.chosen, pair.rejected) == ("yes", "no")
    stored = pd.read_parquet(prepared.folder / "train.parquet")
    assert stored["instruction"].tolist() == [render_dialogue(turns)]


BAD_PAIRS: dict[str, object] = {
    "broken_row": {"chosen": 5, "rejected": "b"},
    "no_assistant_turn": ("Human: a", "Human: a"),
    "different_turns": ("Human: a\n\nAssistant: b", "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"),
    "not_human_first": ("Assistant: a\n\nHuman: b", "Assistant: a\n\nHuman: b"),
    "ends_with_human": ("Human: a\n\nAssistant: b\n\nHuman: c", "Human: a\n\nAssistant: b\n\nHuman: c"),
    "prompt_differs": ("Human: a\n\nAssistant: b", "Human: other\n\nAssistant: b"),
    "empty_reply": ("Human: a\n\nAssistant: b", "Human: a\n\nAssistant:"),
    "identical_replies": ("Human: a\n\nAssistant: b", "Human: a\n\nAssistant: b "),
    "test_prompt": GOOD,
}


@pytest.mark.parametrize("reason", BAD_PAIRS)
def test_each_dropped_pair_is_counted_under_its_reason(tmp_path: Path, ledger: Ledger, reason: str) -> None:
    train = [numbered(1), numbered(2), BAD_PAIRS[reason]]
    prepared = prepare(ledger, source(tmp_path, train), FilterOptions())
    assert counts(ledger, prepared) == {reason: 1}
    assert kept(prepared) == ["good 1", "good 2"]
    [train_row, test_row] = dialogues.compare_with_table_6(ledger, prepared.dataset_digest)
    assert (train_row["rows_read"], train_row["pairs_kept"], train_row["paper_pairs"]) == (3, 2, 42537)
    assert (test_row["rows_read"], test_row["pairs_kept"], test_row["paper_pairs"]) == (1, 1, 2312)


@pytest.mark.parametrize("row", [{}, [1], "text", None, {"chosen": None, "rejected": {"a": 1}}], ids=str)
def test_rows_of_another_form_are_broken_rows(tmp_path: Path, ledger: Ledger, row: object) -> None:
    prepared = prepare(ledger, source(tmp_path, [numbered(1), numbered(2), row]), FilterOptions())
    assert counts(ledger, prepared) == {"broken_row": 1}


def test_the_replies_filters_can_be_turned_off(tmp_path: Path, ledger: Ledger) -> None:
    train = [("Human: a\n\nAssistant:", "Human: a\n\nAssistant:"), numbered(1), numbered(1)]
    prepared = prepare(ledger, source(tmp_path, train), ALL_KEPT)
    assert counts(ledger, prepared) == {}
    assert kept(prepared) == ["", "good 1", "good 1"]


def test_one_pair_of_each_prompt_stays_whatever_the_order_of_rows(tmp_path: Path, ledger: Ledger) -> None:
    train = [(f"Human: a\n\nAssistant: good {n}", f"Human: a\n\nAssistant: bad {n}") for n in range(6)]
    forwards = prepare(ledger, source(tmp_path / "a", [*train, *train]), FilterOptions())
    backwards = prepare(ledger, source(tmp_path / "b", [*train, *train][::-1]), FilterOptions())
    assert forwards.dataset_digest != backwards.dataset_digest
    assert counts(ledger, forwards) == {"duplicate_prompt": 11}
    assert len(kept(forwards)) == 1
    assert kept(forwards) == kept(backwards)


def test_the_prompt_of_a_dropped_test_pair_stays_out_of_training_too(tmp_path: Path, ledger: Ledger) -> None:
    same = "Human: q1\n\nAssistant: same"
    prepared = prepare(
        ledger, source(tmp_path, [numbered(1), numbered(2)], [(same, same), GOOD]), FilterOptions()
    )
    assert counts(ledger, prepared) == {"test_prompt": 1}


def test_prompts_over_the_token_limit_are_dropped(tmp_path: Path, ledger: Ledger) -> None:
    long = ("Human: a b c d e f\n\nAssistant: g", "Human: a b c d e f\n\nAssistant: h")
    options = FilterOptions(max_prompt_tokens=5, tokenizer="words")
    asked: list[str] = []

    def count(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [len(text.split()) for text in texts]

    prepared = prepare(ledger, source(tmp_path, [numbered(1), long, long]), options, count)
    assert counts(ledger, prepared) == {"prompt_too_long": 2}
    assert sorted(asked) == sorted(
        {"Human: hi\n\nAssistant:", "Human: q1\n\nAssistant:", "Human: a b c d e f\n\nAssistant:"}
    )


def test_a_limit_without_a_way_to_count_is_the_callers_mistake(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="belong together"):
        prepare(ledger, source(tmp_path, [GOOD]), FilterOptions(max_prompt_tokens=5))


def test_prepared_data_is_used_again_wherever_the_files_lie(tmp_path: Path, ledger: Ledger) -> None:
    first = prepare(ledger, source(tmp_path / "a", [numbered(1)]), FilterOptions())
    (tmp_path / "a").rename(tmp_path / "b")
    again = prepare(ledger, FolderSource(tmp_path / "b", ONE), FilterOptions())
    other = prepare(ledger, FolderSource(tmp_path / "b", ONE), FilterOptions(paragraphs="drop"))
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.folder == again.folder != other.folder
    assert sorted(path.name for path in first.folder.iterdir()) == ["test.parquet", "train.parquet"]
    assert sorted(path.name for path in first.folder.parent.iterdir()) == sorted(
        [first.dataset_digest, other.dataset_digest]
    )


@pytest.mark.parametrize("form", ["pandas", "arrow"])
def test_a_table_gives_the_same_pairs_as_files(tmp_path: Path, ledger: Ledger, form: str) -> None:
    import pyarrow as pa

    rows = [("harmless-base", "train", *numbered(n)) for n in range(5)] + [("harmless-base", "test", *GOOD)]
    frame = pd.DataFrame(rows, columns=["subset", "split", "chosen", "rejected"])
    table = frame if form == "pandas" else pa.Table.from_pandas(frame)
    from_table = prepare(ledger, TableSource("world", table, form), FilterOptions())
    from_files = prepare(ledger, source(tmp_path, [numbered(n) for n in range(5)]), FilterOptions())
    assert load_pairs(from_table.folder, "train") == load_pairs(from_files.folder, "train")
    assert load_pairs(from_table.folder, "test") == load_pairs(from_files.folder, "test")


def test_a_table_with_other_columns_is_refused(ledger: Ledger) -> None:
    with pytest.raises(DataError, match="has the columns text, expected subset, split, chosen, rejected"):
        prepare(ledger, TableSource("other", pd.DataFrame({"text": ["a"]}), "1"), FilterOptions())


def test_missing_files_are_all_named(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(DataError, match=r"harmless-base/train.*harmless-base/test.*data\.path"):
        prepare(ledger, FolderSource(tmp_path / "nowhere", ONE), FilterOptions())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "is no gzip file"),
        (b"", "is empty"),
        (gzip.compress(b""), "is empty"),
        (gzip.compress(os.urandom(4000).hex().encode() * 50)[:3000], r"train\.jsonl\.gz"),
        (gzip.compress(b'{"chosen": "a", "rejected": "b"}\n{"chosen": \n'), r"train\.jsonl\.gz.*line"),
        (gzip.compress(b'{"chosen": "\xff", "rejected": "b"}\n'), r"train\.jsonl\.gz.*UTF-8"),
    ],
    ids=["no gzip", "empty", "empty gzip", "truncated", "no json", "no text"],
)
def test_a_broken_file_is_named(tmp_path: Path, ledger: Ledger, content: bytes, message: str) -> None:
    broken = source(tmp_path, [GOOD])
    (tmp_path / "harmless-base" / "train.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(ledger, broken, FilterOptions())
    assert not list((ledger.home / "data").glob("*")), "nothing half-made is left"


def test_a_file_of_other_rows_is_refused(tmp_path: Path, ledger: Ledger) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}, GOOD]
    with pytest.raises(DataError, match="2 of 3 rows of harmless-base/train have no texts"):
        prepare(ledger, source(tmp_path, rows), FilterOptions())


def test_a_folder_name_with_pattern_characters_is_read(tmp_path: Path, ledger: Ledger) -> None:
    prepared = prepare(ledger, source(tmp_path / "odd [x]* name", [numbered(1)]), FilterOptions())
    assert kept(prepared) == ["good 1"]


@pytest.mark.skipif(not REAL, reason="CYCLEALIGN_HH_RLHF names no folder with HH-RLHF files")
def test_every_real_pair_is_kept_and_split_as_open_assistant_does(ledger: Ledger) -> None:
    folder = Path(str(REAL))
    options = dataclasses.replace(ALL_KEPT, paragraphs="drop")
    prepared = prepare(ledger, FolderSource(folder, SUBSETS), options)
    found = Counter(
        (
            pair.prompt.subset,
            split,
            tuple((t.speaker, t.text) for t in pair.prompt.turns),
            pair.chosen,
            pair.rejected,
        )
        for split in ("train", "test")
        for pair in load_pairs(prepared.folder, split)
    )
    expected = Counter(
        (subset, split, tuple(turns_of(chosen)[:-1]), turns_of(chosen)[-1][1], turns_of(rejected)[-1][1])
        for subset, split, chosen, rejected in read_files(folder)
        if keeps(chosen, rejected)
    )
    assert found == expected
