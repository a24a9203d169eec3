"""Journals: what is recorded is whole, on the disk, and belongs to a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cyclealign.errors import StorageFull
from storage.evaluations import RewardScore
from storage.journal import Journal, is_dead, journals, rows_behind
from tests.full_disk import files_up_to

WRITER = """
import sys
from pathlib import Path
from storage.evaluations import RewardScore
from storage.journal import Journal
Journal(Path(sys.argv[1])).append([RewardScore("theirs", "m", 0.5)])
print("written", flush=True)
sys.stdin.readline()
"""


def score(generation_id: str = "g", reward: float = 0.5) -> RewardScore:
    return RewardScore(generation_id, "m", reward)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def read(journal: Journal, start: int = 0) -> list[str]:
    assert journal.path is not None
    rows, _ = rows_behind(journal.path, start)
    return [row["generation_id"] for row in rows.get("reward_scores", [])]


def test_a_line_is_a_transaction_and_times_only_grow(journal: Journal) -> None:
    for name in "ab":
        journal.append([score(name), score(name * 2)])
    journal.append([])
    assert journal.path is not None
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [len(one["facts"]) for one in lines] == [2, 2]
    assert lines[0]["at"] < lines[1]["at"]
    assert lines[0]["facts"][0] == ["reward_scores", {"generation_id": "a", "reward_model": "m", "reward": 0.5}]


def test_a_line_without_its_end_did_not_happen(journal: Journal) -> None:
    journal.append([score("whole")])
    assert journal.path is not None
    length = journal.path.stat().st_size
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2026-01-01T00:00:00+00:00", "facts": [["reward_sc')
    rows, end = rows_behind(journal.path, 0)
    assert [row["generation_id"] for row in rows["reward_scores"]] == ["whole"]
    assert end == length


def test_a_write_that_fails_half_way_is_cut_off_and_the_next_one_stands(journal: Journal) -> None:
    journal.append([score("before")])
    with pytest.raises(StorageFull, match="safe"), files_up_to(journal.length + 40):
        journal.append([score("x" * 400)])
    journal.append([score("after")])
    assert read(journal) == ["before", "after"]


def test_a_journal_is_dead_when_its_process_is(tmp_path: Path, journal: Journal) -> None:
    journal.append([score()])
    command = [sys.executable, "-c", WRITER, str(journal.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written\n"
        (theirs,) = (path for path in journals(journal.folder) if path != journal.path)
        assert not is_dead(theirs)
        other.kill()
        other.wait()
    assert is_dead(theirs)
    assert journal.path is not None
    assert not is_dead(journal.path)
    mine = journal.path
    journal.end()
    assert is_dead(mine)


def test_an_empty_home_gets_no_journal(journal: Journal) -> None:
    journal.append([])
    assert journals(journal.folder) == []
