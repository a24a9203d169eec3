"""Checkpoints of the ledger: what they begin with, and what a process that dies within one leaves behind."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import duckdb
import pytest

from cyclealign.errors import LedgerForeign, LedgerLocked, StorageFull
from storage import connection, runs, snapshots
from storage.ledger import Ledger
from storage.reading import opened_ledger
from tests.full_disk import files_up_to
from tests.storage.conftest import RunScript
from tests.storage.holders import names
from tests.storage.values import new_run

FIRST_BLOCK = slice(3 * 4096, 3 * 4096 + 4096)
"""Bytes in the first block of a DuckDB file, where the last checkpoint's root is and the next one writes as well."""
PUBLISH = """
    import sys
    from pathlib import Path
    from storage import runs
    from storage.ledger import Ledger
    from tests.storage.values import new_run
    ledger = Ledger(Path(sys.argv[1]))
    for number in range(10**6):
        name = f"{sys.argv[2]}-{number}"
        runs.register(ledger, new_run(name))
        print(name, flush=True)
        ledger.publish_snapshot()
    """
CLIENT = """
    import sys, duckdb
    with duckdb.connect(sys.argv[1]) as connection:
        print("opened", flush=True)
        sys.stdin.readline()
    """
"""A program that knows nothing of our lock, writes a checkpoint when it ends, and removes the log."""


def begun(ledger: Ledger) -> Path:
    return ledger.home / "ledger.duckdb.checkpoint"


def cut_off(ledger: Ledger) -> None:
    """A closed ledger with a run in its file and one in its log, in which a checkpoint was begun."""
    runs.register(ledger, new_run("in the file"))
    ledger.publish_snapshot()
    runs.register(ledger, new_run("in the log"))
    ledger.close()
    begun(ledger).touch()


def torn(ledger: Ledger) -> None:
    """What a write that was cut off leaves: a part of the block is new."""
    content = bytearray(ledger.path.read_bytes())
    content[FIRST_BLOCK] = bytes(4096)
    ledger.path.write_bytes(content)


def test_a_checkpoint_that_was_cut_off_is_undone_and_nothing_is_lost(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off(ledger)
    torn(ledger)
    ledger.path.chmod(0o640)
    assert names(ledger) == ["in the file", "in the log"]
    assert ledger.path.stat().st_mode & 0o777 == 0o640
    assert "cut off and has been undone" in caplog.text
    assert not begun(ledger).exists()
    runs.register(ledger, new_run("later"))
    ledger.publish_snapshot()
    ledger.close()
    assert names(ledger) == ["in the file", "in the log", "later"]


def test_a_question_undoes_a_checkpoint_that_was_cut_off(ledger: Ledger) -> None:
    cut_off(ledger)
    torn(ledger)
    frame, source = ledger.query_anywhere("select run_name from runs order by run_name")
    assert (list(frame["run_name"]), source) == (["in the file", "in the log"], "ledger")


def test_a_checkpoint_is_not_undone_while_another_program_has_the_file_open(ledger: Ledger, script: RunScript) -> None:
    """It would write into the file that was replaced, and remove the log of the one in its place."""
    cut_off(ledger)
    other = script(CLIENT, ledger.path)
    assert other.stdout is not None
    assert other.stdout.readline() == "opened\n"
    with pytest.raises(LedgerLocked):
        names(Ledger(ledger.home, wait_s=0.1))
    assert ledger.query_anywhere("select run_name from runs")[1].startswith("snapshot of ")
    other.communicate("end\n")
    assert names(ledger) == ["in the file", "in the log"]


def test_a_file_that_is_broken_for_another_reason_is_told(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    ledger.publish_snapshot()
    ledger.close()
    torn(ledger)
    with pytest.raises(LedgerForeign, match="checksum"):
        names(ledger)


def test_a_checkpoint_that_was_complete_is_kept_though_its_copy_is_missing(ledger: Ledger) -> None:
    runs.register(ledger, new_run("before"))
    ledger.publish_snapshot()
    old = shutil.copy2(ledger.snapshot_path, ledger.home / "old")
    runs.register(ledger, new_run("after"))
    ledger.publish_snapshot()
    ledger.close()
    Path(old).replace(ledger.snapshot_path)
    begun(ledger).touch()
    assert names(ledger) == ["before", "after"]
    runs.register(ledger, new_run("later"))
    ledger.publish_snapshot()
    assert names(ledger) == ["before", "after", "later"]


@dataclass
class Watched:
    """A connection whose checkpoint is looked at before it begins, and may be interrupted when it is complete."""

    connection: duckdb.DuckDBPyConnection
    before: Callable[[], None]
    interrupted: bool = False

    def execute(self, statement: str) -> None:
        self.before()
        self.connection.execute(statement)
        if self.interrupted:
            raise KeyboardInterrupt


def watched(ledger: Ledger, before: Callable[[], None], *, interrupted: bool = False) -> None:
    with connection.shared(ledger.path).use(1.0, print) as opened:
        snapshots.publish(cast("duckdb.DuckDBPyConnection", Watched(opened, before, interrupted)), ledger.path)


def test_a_checkpoint_begins_with_a_copy_of_the_file_and_a_note_that_it_has_begun(ledger: Ledger) -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append(begun(ledger).exists() and ledger.snapshot_path.read_bytes() == ledger.path.read_bytes())

    for name in ("first", "second"):
        runs.register(ledger, new_run(name))
        watched(ledger, look)
        assert not begun(ledger).exists()
    assert seen == [True, True]


def test_a_checkpoint_that_was_interrupted_leaves_a_ledger_that_goes_on(ledger: Ledger) -> None:
    runs.register(ledger, new_run("first"))
    with pytest.raises(KeyboardInterrupt):
        watched(ledger, lambda: None, interrupted=True)
    runs.register(ledger, new_run("second"))
    assert not begun(ledger).exists()
    with duckdb.connect(str(ledger.publish_snapshot()), read_only=True) as reader:
        assert reader.execute("select count(*) from runs").fetchone() == (2,)


def test_a_question_is_answered_from_the_snapshot_where_the_disk_has_no_room_to_undo(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    ledger.publish_snapshot()
    ledger.close()
    begun(ledger).touch()
    with files_up_to(ledger.path.stat().st_size // 2):
        frame, source = ledger.query_anywhere("select run_name from runs")
    assert list(frame["run_name"]) == ["a-run"]
    assert source.startswith("snapshot of ")


def test_questions_share_a_ledger(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    ledger.close()
    with opened_ledger(ledger.path) as one, opened_ledger(ledger.path) as other:
        assert one is not None
        assert other is not None


def test_a_log_whose_ledger_was_moved_away_is_told(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    ledger.close()
    ledger.path.rename(ledger.home / "elsewhere.duckdb")
    with pytest.raises(LedgerForeign, match=r"ledger\.duckdb\.wal is there without .*put the ledger back"):
        names(ledger)
    (ledger.home / "elsewhere.duckdb").rename(ledger.path)
    assert names(ledger) == ["a-run"]


def test_processes_killed_while_they_write_checkpoints_lose_nothing(ledger: Ledger, script: RunScript) -> None:
    moments, told = random.Random(0), set[str]()
    for life in range(6):
        process = script(PUBLISH, ledger.home, life)
        assert process.stdout is not None
        for _ in range(3):
            told.add(process.stdout.readline().strip())
        time.sleep(moments.random() * 0.03)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        told |= set(process.stdout.read().split())
        assert told <= set(names(ledger))
        ledger.close()


def test_a_disk_that_is_full_at_a_checkpoint_loses_nothing(ledger: Ledger) -> None:
    runs.register(ledger, new_run("first"))
    ledger.publish_snapshot()
    runs.register(ledger, new_run("second"))
    with files_up_to(ledger.path.stat().st_size), pytest.raises(StorageFull):
        ledger.publish_snapshot()
    assert names(ledger) == ["first", "second"]
    ledger.publish_snapshot()
    ledger.close()
    assert names(ledger) == ["first", "second"]


def test_a_snapshot_is_copied_again_only_when_the_ledger_was_changed(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    first = ledger.publish_snapshot().stat().st_ino
    assert ledger.publish_snapshot().stat().st_ino == first
    runs.register(ledger, new_run("another"))
    assert ledger.publish_snapshot().stat().st_ino != first
