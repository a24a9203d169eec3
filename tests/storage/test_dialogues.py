"""The filter keeps what Open-Assistant's rule keeps, counts every drop, and names broken files."""

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.open_assistant import write_files
from cyclealign.errors import DataError, StorageFull
from cyclealign.records import SUBSETS, PreferencePair, Turn, prompt_id
from storage import dialogues
from storage.dialogues import FilterOptions, FolderSource, PreparedDialogues, TableSource, prepare
from storage.ledger import Ledger
from storage.sampling import load_pairs
from tests.full_disk import files_up_to

ONE = ("harmless-base",)
GOOD = ("\n\nHuman: hi\n\nAssistant: hello", "\n\nHuman: hi\n\nAssistant: go away")
ALL_KEPT = FilterOptions(drop_identical=False, drop_empty=False, drop_duplicates=False)


def test_a_full_disk_leaves_nothing_behind_and_the_next_time_all_is_prepared(ledger: Ledger, tmp_path: Path) -> None:
    rows = source(tmp_path / "hh", [numbered(number) for number in range(3_000)])
    with ledger.session():
        pass
    with pytest.raises(StorageFull, match="File too large"), files_up_to(4_096):
        prepare(ledger, rows, FilterOptions())
    assert list((ledger.home / "data").iterdir()) == []
    assert len(kept(prepare(ledger, rows, FilterOptions()))) == 3_000


@pytest.fixture
def whole(tmp_path: Path) -> FolderSource:
    """Every file of the hub's layout, small."""
    names = [f"{subset}/{split}" for subset in SUBSETS for split in ("train", "test")]
    return FolderSource(write_files(tmp_path / "hh", {name: [numbered(n) for n in range(50)] for name in names}))


def test_many_cores_need_no_more_memory(ledger: Ledger, whole: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's readers hold 32 MiB each, and as many read as there are files and threads."""
    monkeypatch.setattr("storage.filtering.MEMORY", "300MB")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert kept(prepare(ledger, whole, FilterOptions()), "test")


def test_too_little_memory_is_called_that(ledger: Ledger, whole: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.filtering.MEMORY", "8MB")
    with pytest.raises(DataError, match=r"Expected 8MB of memory .*data\.subsets"):
        prepare(ledger, whole, FilterOptions())


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


def test_prompts_are_rendered_and_named_as_everywhere_else(tmp_path: Path, ledger: Ledger) -> None:
    text = "\n\nHuman: ä 😀\n\nmore\n\nAssistant: b\n\nHuman: c'\"\n\nAssistant: "
    prepared = prepare(ledger, source(tmp_path, [(f"{text}yes", f"{text}no")]), FilterOptions())
    [pair] = load_pairs(prepared.folder, "train")
    turns = (Turn("human", "ä 😀\n\nmore"), Turn("assistant", "b"), Turn("human", "c'\""))
    assert pair.prompt.turns == turns
    assert pair.prompt.prompt_id == prompt_id(turns)
    assert (pair.chosen, pair.rejected) == ("yes", "no")


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


FOREIGN = [
    {},
    None,
    {"chosen": None, "rejected": {"a": 1}},
    {"chosen": [{"role": "user", "content": "\n\nHuman: a\n\nAssistant: b"}], "rejected": "b"},
    {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": True},
    {"chosen": 1.5, "rejected": "b"},
]


@pytest.mark.parametrize("row", FOREIGN, ids=str)
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
    prepared = prepare(ledger, source(tmp_path, [numbered(1), numbered(2)], [(same, same), GOOD]), FilterOptions())
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
        (gzip.compress(b'{"chosen": "a", "rejected": "b"}\n[1]\n'), r"train\.jsonl\.gz.*Expected OBJECT"),
        (gzip.compress(b'"text"\n'), r"train\.jsonl\.gz.*Expected OBJECT, but got VARCHAR"),
    ],
    ids=["no gzip", "empty", "empty gzip", "truncated", "no json", "no text", "a list", "a text"],
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
