"""The snapshot beside the ledger, and questions to either."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from cyclealign.errors import LedgerError, LedgerForeign, StorageFull, UsageError
from storage import reading, runs
from storage.ledger import Ledger
from tests.full_disk import files_up_to
from tests.storage.conftest import RunScript
from tests.storage.holders import KEEP, hold, names
from tests.storage.values import new_run


def test_a_reader_of_the_snapshot_keeps_what_it_has_while_a_new_one_is_published(ledger: Ledger) -> None:
    runs.register(ledger, new_run("first"))
    snapshot = ledger.publish_snapshot()
    with duckdb.connect(str(snapshot), read_only=True) as reader:
        runs.register(ledger, new_run("second"))
        ledger.publish_snapshot()
        assert reader.execute("select run_name from runs").fetchall() == [("first",)]
    with duckdb.connect(str(snapshot), read_only=True) as reader:
        assert reader.execute("select count(*) from runs").fetchone() == (2,)


def test_publishing_a_snapshot_does_not_lose_the_lock(ledger: Ledger) -> None:
    code = "import sys, duckdb; duckdb.connect(sys.argv[1])"
    with ledger.session():
        ledger.publish_snapshot()
        tried = subprocess.run(
            [sys.executable, "-c", code, str(ledger.path)], capture_output=True, text=True, check=False
        )
    assert "Could not set lock" in tried.stderr


def test_a_snapshot_without_room_is_told(ledger: Ledger) -> None:
    names(ledger)
    with files_up_to(ledger.path.stat().st_size // 2), pytest.raises(StorageFull, match="room for a copy"):
        ledger.publish_snapshot()
    assert not ledger.snapshot_path.exists()


def test_a_question_goes_to_the_ledger_when_it_is_free(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    frame, source = ledger.query_anywhere("select run_name from runs")
    assert frame.to_dict("records") == [{"run_name": "a-run"}]
    assert source == "ledger"


def test_a_question_goes_to_the_ledger_while_another_process_keeps_it_without_using_it(
    ledger: Ledger, script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE_S", 30)
    runs.register(ledger, new_run())
    ledger.close()
    keeper = script(KEEP, ledger.home)
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "kept\n"
    frame, source = ledger.query_anywhere("select run_name from runs")
    assert frame.to_dict("records") == [{"run_name": "a-run"}]
    assert source == "ledger"
    assert not (ledger.home / "ledger.duckdb.waiting").exists()
    assert keeper.communicate("\n")[0] == "['a-run']\n"  # and goes on afterwards


def test_a_question_goes_to_the_snapshot_while_another_process_holds_the_ledger(
    ledger: Ledger, script: RunScript
) -> None:
    runs.register(ledger, new_run())
    ledger.publish_snapshot()
    ledger.close()
    hold(script, ledger)
    frame, source = ledger.query_anywhere("select run_name from runs")
    assert frame.to_dict("records") == [{"run_name": "a-run"}]
    assert source.startswith("snapshot of ")


def test_a_question_is_answered_from_one_snapshot_where_another_takes_its_place_meanwhile(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.register(ledger, new_run("first"))
    ledger.publish_snapshot()
    connect, opened = duckdb.connect, []

    def connect_and_publish(path: str, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        opened.append(connect(path, read_only=read_only))
        if len(opened) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(duckdb, "connect", connect)
                runs.register(ledger, new_run("second"))
                ledger.publish_snapshot()
        return opened[-1]

    monkeypatch.setattr(duckdb, "connect", connect_and_publish)
    frame, _ = reading.ask(None, ledger.snapshot_path, "select run_name from runs")
    assert len(opened) == 2
    assert list(frame["run_name"]) == ["first", "second"]


def test_a_foreign_file_in_the_snapshots_place_is_told(ledger: Ledger, script: RunScript) -> None:
    hold(script, ledger)
    ledger.snapshot_path.write_bytes(b"my diary" * 600)
    with pytest.raises(LedgerForeign, match=r"snapshot\.duckdb is not a usable ledger"):
        ledger.query_anywhere("select 1")


def test_a_write_ahead_log_that_was_cut_off_does_not_hide_what_is_in_the_file(
    ledger: Ledger, script: RunScript
) -> None:
    runs.register(ledger, new_run())
    ledger.close()
    process = script(
        """
        import os, sys
        from pathlib import Path
        from storage import runs
        from storage.ledger import Ledger
        from tests.storage.values import new_run
        runs.register(Ledger(Path(sys.argv[1])), new_run("lost-in-part"))
        os.kill(os.getpid(), 9)
        """,
        ledger.home,
    )
    process.wait()
    log = Path(f"{ledger.path}.wal")
    log.write_bytes(log.read_bytes()[:-7])
    assert names(ledger)[0] == "a-run"


def test_a_question_while_the_ledger_is_held_and_no_snapshot_is_there_says_so(
    ledger: Ledger, script: RunScript
) -> None:
    hold(script, ledger)
    with pytest.raises(LedgerError, match="no snapshot yet"):
        ledger.query_anywhere("select 1")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select nonsense from runs", "nonsense"),
        ("selekt 1", "syntax error"),
        ("delete from runs", "read-only"),
        ("create table mine (x integer)", "read-only"),
    ],
    ids=["unknown column", "no sql", "delete", "create"],
)
def test_a_question_that_is_wrong_or_writes_is_refused(ledger: Ledger, statement: str, message: str) -> None:
    runs.register(ledger, new_run())
    with pytest.raises(UsageError, match=message):
        ledger.query_anywhere(statement)
    assert names(ledger) == ["a-run"]


def test_a_question_before_there_is_a_ledger_says_where_it_was_looked_for(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=r"No ledger in .*home"):
        ledger.query_anywhere("select 1")
    assert not ledger.home.exists()
