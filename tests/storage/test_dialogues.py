"""The filter counts every drop under its reason, reuses what it prepared, and names broken files."""

import gzip
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.dialogue_filter import write_files
from cyclealign.data.hh_rlhf import SPLITS, DialogueFolder
from cyclealign.errors import DataError, StorageFull
from cyclealign.records import SUBSETS, Turn, prompt_id
from cyclealign.settings import DataSettings
from storage import dialogues
from storage.dialogues import PreparedDialogues, TokenCounter, prepare
from storage.ledger import Ledger
from storage.sampling import load_pairs
from tests.full_disk import files_up_to
from tests.storage.values import dialogue_table

ONE = ("harmless-base",)
GOOD = ("\n\nHuman: hi\n\nAssistant: hello", "\n\nHuman: hi\n\nAssistant: go away")
FILTERED = DataSettings(source="folder")
ALL_KEPT = DataSettings(source="folder", drop_identical=False, drop_empty=False, drop_duplicates=False)


def numbered(number: int) -> tuple[str, str]:
    return (f"Human: q{number}\n\nAssistant: good {number}", f"Human: q{number}\n\nAssistant: bad {number}")


def source(folder: Path, train: Sequence[object], test: Sequence[object] = (GOOD,)) -> DialogueFolder:
    return DialogueFolder(write_files(folder, {"harmless-base/train": train, "harmless-base/test": test}), ONE)


def counts(ledger: Ledger, prepared: PreparedDialogues) -> dict[str, int]:
    """Training pairs dropped, by reason."""
    [train, _] = dialogues.filter_counts(ledger, prepared.dataset_digest)
    return dict(train["drops"] or {})


def kept(prepared: PreparedDialogues, split: Any = "train") -> list[str]:
    return sorted(pair.chosen for pair in load_pairs(prepared.folder, split))


def test_a_full_disk_leaves_nothing_behind_and_the_next_time_all_is_prepared(ledger: Ledger, tmp_path: Path) -> None:
    rows = source(tmp_path / "hh", [numbered(number) for number in range(3_000)])
    with ledger.session():
        pass
    with pytest.raises(StorageFull, match="File too large"), files_up_to(4_096):
        prepare(ledger, rows, FILTERED)
    assert list((ledger.home / "data").iterdir()) == []
    assert len(kept(prepare(ledger, rows, FILTERED))) == 3_000


def test_many_cores_need_no_more_memory_and_too_little_is_called_that(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's readers take 32 MiB each, and as many read as there are files and threads."""
    names = [f"{subset}/{split}" for subset in SUBSETS for split in SPLITS]
    whole = DialogueFolder(write_files(tmp_path / "hh", {name: [numbered(n) for n in range(50)] for name in names}))
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("storage.dialogues.MEMORY", "8MB")
    with pytest.raises(DataError, match=r"Expected 8MB of memory .*data\.subsets"):
        prepare(ledger, whole, FILTERED)
    monkeypatch.setattr("storage.dialogues.MEMORY", "300MB")
    assert kept(prepare(ledger, whole, FILTERED), "test")


def test_prompts_are_rendered_and_named_as_everywhere_else(tmp_path: Path, ledger: Ledger) -> None:
    text = "\n\nHuman: ä 😀\n\nmore\n\nAssistant: b\n\nHuman: c'\"\n\nAssistant: "
    [pair] = load_pairs(prepare(ledger, source(tmp_path, [(f"{text}yes", f"{text}no")]), FILTERED).folder, "train")
    turns = (Turn("human", "ä 😀\n\nmore"), Turn("assistant", "b"), Turn("human", "c'\""))
    assert pair.prompt.turns == turns
    assert pair.prompt.prompt_id == prompt_id(turns)
    assert (pair.chosen, pair.rejected) == ("yes", "no")


DROPPED: dict[str, list[object]] = {
    "broken_row": [
        {},
        None,
        {"chosen": 5, "rejected": "b"},
        {"chosen": None, "rejected": {"a": 1}},
        {"chosen": [{"role": "user", "content": "\n\nHuman: a\n\nAssistant: b"}], "rejected": "b"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": True},
    ],
    "no_assistant_turn": [("Human: a", "Human: a")],
    "different_turns": [("Human: a\n\nAssistant: b", "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d")],
    "not_human_first": [("Assistant: a\n\nHuman: b", "Assistant: a\n\nHuman: b")],
    "ends_with_human": [("Human: a\n\nAssistant: b\n\nHuman: c", "Human: a\n\nAssistant: b\n\nHuman: c")],
    "prompt_differs": [("Human: a\n\nAssistant: b", "Human: other\n\nAssistant: b")],
    "empty_reply": [("Human: a\n\nAssistant: b", "Human: a\n\nAssistant:")],
    "identical_replies": [("Human: a\n\nAssistant: b", "Human: a\n\nAssistant: b ")],
    "duplicate_prompt": [numbered(3), ("Human: q3\n\nAssistant: good 3", "Human: q3\n\nAssistant: worse")],
    "test_prompt": [GOOD, numbered(20)],
}
"""Training rows by the reason that drops them."""


def test_every_dropped_pair_is_counted_under_its_reason(tmp_path: Path, ledger: Ledger) -> None:
    """The prompt of a test pair stays out of training even if its replies drop the pair."""
    train = [row for rows in DROPPED.values() for row in rows] + [numbered(n) for n in range(10)]
    same = ("Human: q20\n\nAssistant: same", "Human: q20\n\nAssistant: same")
    prepared = prepare(ledger, source(tmp_path, train, [GOOD, same]), FILTERED)
    assert counts(ledger, prepared) == {reason: len(rows) for reason, rows in DROPPED.items()}
    assert kept(prepared) == [f"good {n}" for n in range(10)]
    [train_row, test_row] = dialogues.filter_counts(ledger, prepared.dataset_digest)
    assert (train_row["rows_read"], train_row["pairs_kept"], train_row["paper_pairs"]) == (27, 10, 42537)
    assert (test_row["rows_read"], test_row["pairs_kept"], test_row["paper_pairs"]) == (2, 1, 2312)


def test_the_filters_of_replies_and_duplicates_can_be_turned_off(tmp_path: Path, ledger: Ledger) -> None:
    train = [("Human: a\n\nAssistant:", "Human: a\n\nAssistant:"), numbered(1), numbered(1)]
    prepared = prepare(ledger, source(tmp_path, train), ALL_KEPT)
    assert counts(ledger, prepared) == {}
    assert kept(prepared) == ["", "good 1", "good 1"]


def test_lines_that_are_no_json_are_dropped_and_counted_and_files_may_be_uncompressed(
    tmp_path: Path, ledger: Ledger
) -> None:
    there = source(tmp_path, [numbered(n) for n in range(6)])
    packed = tmp_path / "harmless-base" / "train.jsonl.gz"
    good = gzip.decompress(packed.read_bytes())
    packed.unlink()
    odd = [b"\xef\xbb\xbf" + good.splitlines()[0], b'{"chosen": "half \\ud800", "rejected": "b"}', b"\xff\x00"]
    packed.with_suffix("").write_bytes(b"\n".join(odd) + b"\n" + good)
    prepared = prepare(ledger, there, FILTERED)
    assert counts(ledger, prepared) == {"broken_row": 3}
    assert len(kept(prepared)) == 6


def test_one_pair_of_each_prompt_stays_whatever_the_order_of_rows(tmp_path: Path, ledger: Ledger) -> None:
    train = [(f"Human: a\n\nAssistant: good {n}", f"Human: a\n\nAssistant: bad {n}") for n in range(6)]
    forwards = prepare(ledger, source(tmp_path / "a", [*train, *train]), FILTERED)
    backwards = prepare(ledger, source(tmp_path / "b", [*train, *train][::-1]), FILTERED)
    assert forwards.dataset_digest != backwards.dataset_digest
    assert counts(ledger, forwards) == {"duplicate_prompt": 11}
    assert len(kept(forwards)) == 1
    assert kept(forwards) == kept(backwards)


def test_training_prompts_over_the_token_limit_are_dropped_and_those_of_the_test_files_kept(
    tmp_path: Path, ledger: Ledger
) -> None:
    long = ("Human: a b c d e f g h\n\nAssistant: i", "Human: a b c d e f g h\n\nAssistant: j")
    limited = FILTERED.model_copy(update={"max_prompt_tokens": 8})
    asked: list[str] = []

    def count(texts: list[str]) -> list[int]:
        asked.extend(texts)
        return [len(text.split()) for text in texts]

    there = source(tmp_path, [numbered(1), long, long], [GOOD, long])
    prepared = prepare(ledger, there, limited, TokenCounter("words", count))
    assert counts(ledger, prepared) == {"prompt_too_long": 2}
    assert len(kept(prepared, "test")) == 2
    assert sorted(asked) == [f"Human: {text}\n\nAssistant:" for text in ("a b c d e f g h", "hi", "q1")]
    with pytest.raises(ValueError, match="belong together"):
        prepare(ledger, source(tmp_path, [GOOD]), limited)


def test_prepared_data_is_used_again_wherever_the_files_lie(tmp_path: Path, ledger: Ledger) -> None:
    first = prepare(ledger, source(tmp_path / "odd [x]* name", [numbered(1)]), FILTERED)
    moved = DialogueFolder((tmp_path / "odd [x]* name").rename(tmp_path / "b"), ONE)
    again = prepare(ledger, moved, FILTERED.model_copy(update={"prompts": 7}))
    other = prepare(ledger, moved, FILTERED.model_copy(update={"paragraphs": "drop"}))
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.folder == again.folder != other.folder
    assert sorted(path.name for path in first.folder.iterdir()) == ["test.parquet", "train.parquet"]
    assert {path.name for path in first.folder.parent.iterdir()} == {first.dataset_digest, other.dataset_digest}


def test_a_table_gives_the_same_pairs_as_files(tmp_path: Path, ledger: Ledger) -> None:
    rows = [("harmless-base", "train", *numbered(n)) for n in range(5)] + [("harmless-base", "test", *GOOD)]
    in_memory = dialogue_table(rows)
    from_table = prepare(ledger, replace(in_memory, table=pa.Table.from_pandas(in_memory.table)), FILTERED)
    from_files = prepare(ledger, source(tmp_path, [numbered(n) for n in range(5)]), FILTERED)
    for split in SPLITS:
        assert load_pairs(from_table.folder, split) == load_pairs(from_files.folder, split)


NO_ROWS = (b'{"chosen": \n', b'{"chosen": "\xff", "rejected": "b"}\n', b"[1]\n", b'"text"\n')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "is no gzip file"),
        (b"", "is empty"),
        (gzip.compress(b""), "is empty"),
        (gzip.compress(os.urandom(4000).hex().encode() * 50)[:3000], r"train\.jsonl\.gz"),
        *((gzip.compress(row), "1 of 1 rows of harmless-base/train have no texts") for row in NO_ROWS),
        (gzip.compress(b'{"prompt": "a"}\n{"prompt": "b"}\n'), "2 of 2 rows of harmless-base/train have no texts"),
    ],
    ids=["no gzip", "empty", "empty gzip", "truncated", "no json", "no text", "a list", "a text", "other rows"],
)
def test_a_broken_file_is_named(tmp_path: Path, ledger: Ledger, content: bytes, message: str) -> None:
    broken = source(tmp_path, [GOOD])
    (tmp_path / "harmless-base" / "train.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(ledger, broken, FILTERED)
    assert not list((ledger.home / "data").glob("*")), "nothing half-made is left"
