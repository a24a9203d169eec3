"""Opening, sharing and losing the ledger file; migrations; the snapshot; questions to either."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from cyclealign.errors import (
    LedgerError,
    LedgerForeign,
    LedgerLocked,
    StorageFull,
    UsageError,
)
from storage import connection, migrations, runs
from storage.ledger import Ledger
from storage.migrations import Migration
from tests.storage.conftest import RunScript
from tests.storage.values import new_run

HOLD = """
    import sys
    from pathlib import Path
    from storage.ledger import Ledger
    with Ledger(Path(sys.argv[1])).session():
        print("held", flush=True)
        sys.stdin.readline()
    """

KEEP = """
    import sys
    from pathlib import Path
    from storage.ledger import Ledger
    ledger = Ledger(Path(sys.argv[1]))
    with ledger.session():
        pass
    print("kept", flush=True)
    sys.stdin.readline()
    with ledger.session() as session:
        print([row["run_name"] for row in session.rows("runs/names")])
    """


def hold(script: RunScript, ledger: Ledger) -> "subprocess.Popen[str]":
    process = script(HOLD, ledger.home)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def names(ledger: Ledger) -> list[str]:
    with ledger.session() as session:
        return [row["run_name"] for row in session.rows("runs/names")]


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


def test_a_held_ledger_is_named_with_its_holder_after_the_waiting_time(
    ledger: Ledger, script: RunScript
) -> None:
    holder = hold(script, ledger)
    impatient = Ledger(ledger.home, wait_s=0.2)
    with pytest.raises(LedgerLocked, match=rf"process {holder.pid} \(.*python.*after waiting 0 s"):
        names(impatient)


def test_whoever_waits_long_is_told_for_whom_and_gets_in_afterwards(
    tmp_path: Path, script: RunScript
) -> None:
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
    assert not (tmp_path / "ledger.waiting").exists()


def test_a_process_that_uses_the_ledger_all_the_time_lets_others_in(
    ledger: Ledger, script: RunScript
) -> None:
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
    marker = ledger.home / "ledger.waiting"
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


@pytest.mark.parametrize("content", [b"", b"hello world" * 1000], ids=["empty", "text"])
def test_a_foreign_file_in_the_ledgers_place_is_refused(ledger: Ledger, content: bytes) -> None:
    ledger.home.mkdir()
    ledger.path.write_bytes(content)
    with pytest.raises(LedgerForeign, match="not a usable ledger"):
        names(ledger)
    assert ledger.path.read_bytes() == content


def test_a_truncated_ledger_is_refused(ledger: Ledger) -> None:
    names(ledger)
    ledger.close()
    ledger.path.write_bytes(ledger.path.read_bytes()[:5000])
    with pytest.raises(LedgerForeign):
        names(ledger)


def test_somebody_elses_database_is_refused_and_left_alone(ledger: Ledger) -> None:
    ledger.home.mkdir()
    with duckdb.connect(str(ledger.path)) as connection:
        connection.execute("create table birds (name varchar)")
    with pytest.raises(LedgerForeign, match="holds the tables birds, expected a ledger"):
        names(ledger)
    with duckdb.connect(str(ledger.path)) as connection:
        assert connection.execute("select table_name from duckdb_tables()").fetchall() == [("birds",)]


def test_a_ledger_of_a_newer_version_is_refused(ledger: Ledger) -> None:
    with ledger.session() as session:
        session.run("schema/record", version=9999, name="future", checksum="x")
    ledger.close()
    with pytest.raises(LedgerForeign, match=r"schema version 9999.*newer cyclealign"):
        names(ledger)


def test_a_ledger_made_by_another_form_of_a_migration_is_refused() -> None:
    path = Path("ledger.duckdb")
    with duckdb.connect() as connection:
        migrations.migrate(connection, path, [Migration(1, "first", "create table a (x integer)")])
        migrations.migrate(connection, path, [Migration(1, "first", "create table a (x integer) -- same")])
        with pytest.raises(LedgerForeign, match="different migration 1"):
            migrations.migrate(connection, path, [Migration(1, "first", "create table a (y integer)")])


def test_a_failing_migration_leaves_the_ledger_as_it_was() -> None:
    path = Path("ledger.duckdb")
    first = Migration(1, "first", "create table a (x integer); insert into a values (1)")
    broken = Migration(2, "broken", "drop table a; create table b (x integer); select nonsense")
    with duckdb.connect() as connection:
        migrations.migrate(connection, path, [first])
        with pytest.raises(duckdb.Error, match="nonsense"):
            migrations.migrate(connection, path, [first, broken])
        assert connection.execute("select x from a").fetchall() == [(1,)]
        assert connection.execute("select version from schema_migrations").fetchall() == [(1,)]
        mended = Migration(2, "mended", "create table b (x integer)")
        migrations.migrate(connection, path, [first, mended])
        assert connection.execute("select max(version) from schema_migrations").fetchall() == [(2,)]


def test_a_full_disk_is_told_and_what_was_committed_is_safe(ledger: Ledger, script: RunScript) -> None:
    runs.register(ledger, new_run())
    ledger.close()
    process = script(
        """
        import resource, sys
        from pathlib import Path
        from cyclealign.errors import StorageFull
        from storage.ledger import Ledger
        home = Path(sys.argv[1])
        ledger = Ledger(home)
        room = (home / "ledger.duckdb").stat().st_size + 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        counts = {"split": "train", "rows_read": 1, "pairs_kept": 1}
        rows = [{"subset": f"{n}" * 60, **counts} for n in range(60_000)]
        try:
            with ledger.session() as session, session.transaction():
                session.run("datasets/put_files", dataset_digest="d", rows=rows)
        except StorageFull as error:
            print(error)
        with ledger.session() as session:
            print(session.rows("runs/names"))
        """,
        ledger.home,
    )
    printed, errors = process.communicate()
    assert "cannot be written" in printed, errors
    assert "Make room" in printed or "make room" in printed
    assert names(ledger) == ["a-run"]


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="Not a directory"):
        names(Ledger(tmp_path / "file" / "home"))


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
    (ledger.home / "snapshot.new").symlink_to("/dev/full")
    with pytest.raises(StorageFull, match="No space left on device"):
        ledger.publish_snapshot()
    assert not ledger.snapshot_path.exists()


def test_a_question_goes_to_the_ledger_when_it_is_free(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    frame, source = ledger.query_anywhere("select run_name from runs")
    assert frame.to_dict("records") == [{"run_name": "a-run"}]
    assert source == "ledger"


def test_a_question_goes_to_the_ledger_while_another_process_keeps_it_without_using_it(
    ledger: Ledger, script: RunScript
) -> None:
    runs.register(ledger, new_run())
    ledger.close()
    keeper = script(KEEP, ledger.home)
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "kept\n"
    frame, source = ledger.query_anywhere("select run_name from runs")
    assert frame.to_dict("records") == [{"run_name": "a-run"}]
    assert source == "ledger"
    assert not (ledger.home / "ledger.waiting").exists()
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
