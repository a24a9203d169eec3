"""Files that are no ledger, or not this version's, failing migrations, and disks without room."""

from pathlib import Path

import duckdb
import pytest

from cyclealign.errors import LedgerError, LedgerForeign
from storage import migrations, runs
from storage.ledger import Ledger
from storage.migrations import Migration
from tests.storage.conftest import RunScript
from tests.storage.holders import names
from tests.storage.values import new_run


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
