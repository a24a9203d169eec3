"""Opening, sharing and losing the ledger file."""

import os
import signal
import threading
import time
from pathlib import Path

import duckdb
import pytest

from cyclealign.errors import LedgerLocked, StorageFull
from storage import connection, migrations, runs
from storage.ledger import Ledger
from storage.ledger_lock import LedgerLock
from tests.storage.conftest import RunScript
from tests.storage.holders import hold, names
from tests.storage.values import new_run


def test_the_first_session_creates_a_ledger_with_every_migration(ledger: Ledger) -> None:
    assert not ledger.path.exists()
    with ledger.session() as session:
        applied = session.rows("schema/applied")
    assert [row["version"] for row in applied] == [one.version for one in migrations.shipped()]


def test_nested_sessions_of_a_thread_share_the_connection_and_its_transaction(ledger: Ledger) -> None:
    with ledger.session() as outer, outer.transaction():
        outer.run("datasets/put", dataset_digest="d", source="s", location="l", options="{}")
        with Ledger(ledger.home).session() as inner:
            assert inner.value("datasets/exists", dataset_digest="d") == "d"


def test_a_ledger_has_no_threads_that_work_for_it(ledger: Ledger) -> None:
    """They would take memory away from what is computed beside it, see `storage.connection.THREADS`."""
    with connection.shared(ledger.path).use(1.0, print) as opened:
        assert opened.execute("select current_setting('worker_threads')").fetchone() == (1,)


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError, match="half-way"), ledger.session() as session, session.transaction():
        session.run("datasets/put", dataset_digest="d", source="s", location="l", options="{}")
        raise RuntimeError("half-way")
    with ledger.session() as session:
        assert session.value("datasets/exists", dataset_digest="d") is None


def test_threads_take_turns(ledger: Ledger) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            runs.register(ledger, new_run(f"run-{number}-{turn}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(ledger)) == 20


def test_a_frame_and_a_missing_row_come_back_as_expected(ledger: Ledger) -> None:
    with ledger.session() as session:
        assert list(session.frame("runs/names").columns) == ["run_name"]
        assert session.row("runs/get", run_name="nobody") is None
        assert session.value("runs/get", run_name="nobody") is None


def test_a_held_ledger_is_named_with_its_holder_after_the_waiting_time(ledger: Ledger, script: RunScript) -> None:
    holder = hold(script, ledger)
    impatient = Ledger(ledger.home, wait_s=0.2)
    with pytest.raises(LedgerLocked, match=rf"process {holder.pid} \(.*python.*after waiting 0 s"):
        names(impatient)


LOCKED = """
    import sys
    from pathlib import Path
    from storage.ledger_lock import LedgerLock
    lock = LedgerLock.beside(Path(sys.argv[1]))
    assert lock.take()
    print("locked", flush=True)
    sys.stdin.readline()
    lock.release()
    print("released", flush=True)
    sys.stdin.readline()
    """
"""Has the ledger's lock, and never the file: as a process that has yet to open it, or is about to close it."""


def test_the_file_is_not_opened_while_another_process_has_the_lock(ledger: Ledger, script: RunScript) -> None:
    """It may be reading headers that a checkpoint is about to change, see `storage.ledger_lock`."""
    runs.register(ledger, new_run())
    ledger.publish_snapshot()
    ledger.close()
    holder = script(LOCKED, ledger.path)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(LedgerLocked, match=rf"process {holder.pid} \("):
        names(Ledger(ledger.home, wait_s=0.1))
    assert ledger.query_anywhere("select run_name from runs")[1].startswith("snapshot of ")
    holder.stdin.write("release\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "released\n"
    assert names(Ledger(ledger.home, wait_s=0.1)) == ["a-run"]
    assert ledger.query_anywhere("select run_name from runs")[1] == "ledger"


def test_a_ledger_is_read_where_its_lock_cannot_be_written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: LedgerLock, *, shared: bool) -> bool:
        raise StorageFull("read-only")

    runs.register(ledger, new_run())
    ledger.close()
    monkeypatch.setattr(LedgerLock, "take", refuse)
    assert ledger.query_anywhere("select run_name from runs")[1] == "ledger"


def test_whoever_waits_long_is_told_for_whom_and_gets_in_afterwards(tmp_path: Path, script: RunScript) -> None:
    told: list[str] = []
    holder = hold(script, Ledger(tmp_path))

    def tell(message: str) -> None:
        told.append(message)
        assert holder.stdin is not None
        holder.stdin.write("let go\n")
        holder.stdin.flush()

    assert names(Ledger(tmp_path, wait_s=30, tell=tell)) == []
    assert len(told) == 1
    assert f"process {holder.pid}" in told[0]
    assert not (tmp_path / "ledger.duckdb.waiting").exists()


def test_a_process_that_uses_the_ledger_all_the_time_lets_others_in(ledger: Ledger, script: RunScript) -> None:
    with ledger.session():
        pass
    other = script(
        """
        import sys
        from pathlib import Path
        from storage.ledger import Ledger
        ledger = Ledger(Path(sys.argv[1]), wait_s=20)
        for turn in range(5):
            with ledger.session() as session:
                session.run("datasets/put", dataset_digest=str(turn), source="s", location="l", options="{}")
            ledger.close()
        """,
        ledger.home,
    )
    while other.poll() is None:
        names(ledger)
    assert other.returncode == 0, other.communicate()[1]
    with ledger.session() as session:
        assert session.value("datasets/exists", dataset_digest="4") == "4"


def test_a_marker_left_by_a_process_that_died_waiting_is_ignored(ledger: Ledger) -> None:
    ledger.home.mkdir()
    marker = ledger.home / "ledger.duckdb.waiting"
    marker.touch()
    os.utime(marker, (time.time() - 60, time.time() - 60))
    names(ledger)
    with pytest.raises(duckdb.Error):  # still open in this process: another configuration is refused
        duckdb.connect(str(ledger.path), read_only=True)


def test_an_unused_connection_is_closed_after_a_while(
    ledger: Ledger, script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    names(ledger)
    assert names_from_elsewhere(script, ledger) == "[]"


def names_from_elsewhere(script: RunScript, ledger: Ledger) -> str:
    process = script(
        """
        import sys, duckdb, time
        for attempt in range(400):
            try:
                with duckdb.connect(sys.argv[1]) as connection:
                    print(connection.execute("select run_name from runs").fetchall())
                break
            except duckdb.IOException:
                time.sleep(0.02)
        """,
        ledger.path,
    )
    return process.communicate()[0].strip()


def test_a_process_ends_quietly_with_the_ledger_still_open(ledger: Ledger, script: RunScript) -> None:
    process = script(
        """
        import sys
        from pathlib import Path
        from storage.ledger import Ledger
        ledger = Ledger(Path(sys.argv[1]))
        with ledger.session():
            pass
        """,
        ledger.home,
    )
    assert process.communicate() == ("", "")


def test_what_was_committed_survives_a_kill(ledger: Ledger, script: RunScript) -> None:
    process = script(
        """
        import os, signal, sys
        from pathlib import Path
        from storage.ledger import Ledger
        with Ledger(Path(sys.argv[1])).session() as session:
            session.run("datasets/put", dataset_digest="kept", source="s", location="l", options="{}")
            with session.transaction():
                session.run("datasets/put", dataset_digest="lost", source="s", location="l", options="{}")
                os.kill(os.getpid(), signal.SIGKILL)
        """,
        ledger.home,
    )
    assert process.wait() == -signal.SIGKILL
    with ledger.session() as session:
        assert session.value("datasets/exists", dataset_digest="kept") == "kept"
        assert session.value("datasets/exists", dataset_digest="lost") is None


def test_files_left_by_a_process_killed_while_creating_do_not_matter(ledger: Ledger) -> None:
    ledger.home.mkdir()
    (ledger.home / "ledger.new").write_bytes(b"half a file")
    (ledger.home / "ledger.new.wal").write_bytes(b"half a log")
    assert names(ledger) == []
