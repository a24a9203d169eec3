"""The ledger's write-ahead log: when its rows are written into the file, and when they stay."""

import pytest

from storage import connection, runs, snapshots
from storage.ledger import Ledger
from tests.full_disk import files_up_to
from tests.storage.holders import names
from tests.storage.values import new_run


def test_closing_writes_no_checkpoint_and_the_rows_are_in_the_log(ledger: Ledger) -> None:
    names(ledger)
    ledger.close()
    before = ledger.path.stat()
    runs.register(ledger, new_run())
    ledger.close()
    assert (before.st_size, before.st_mtime_ns) == (ledger.path.stat().st_size, ledger.path.stat().st_mtime_ns)
    assert snapshots.log_bytes(ledger.path) > 0
    assert names(ledger) == ["a-run"]


def test_a_log_that_became_long_is_written_into_the_file(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOG_BYTES", 10_000)
    monkeypatch.setattr(connection, "LOG_SHARE", 10**6)
    lengths = []
    for number in range(30):
        runs.register(ledger, new_run(f"run {number:02}"))
        lengths.append(snapshots.log_bytes(ledger.path))
    assert 0 < max(lengths) <= 10_000
    assert lengths.count(0) >= 1
    ledger.close()
    assert len(names(ledger)) == 30


def test_a_log_that_is_short_beside_its_file_stays(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOG_BYTES", 0)
    monkeypatch.setattr(connection, "LOG_SHARE", 1)
    names(ledger)
    runs.register(ledger, new_run())
    assert 0 < snapshots.log_bytes(ledger.path) < ledger.path.stat().st_size


def test_duckdb_writes_no_checkpoint_by_itself(ledger: Ledger) -> None:
    names(ledger)
    with connection.shared(ledger.path).use(1.0, print) as opened:
        opened.execute("create table much (text varchar)")
        before = ledger.path.stat()
        for letter in "abcd":
            opened.execute("insert into much values (?)", [letter * 8_000_000])
        assert snapshots.log_bytes(ledger.path) > 32_000_000
        assert ledger.path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_log_that_others_would_read_for_long_is_written_into_the_file_before_it_is_closed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSED_SHARE", 10**6)
    runs.register(ledger, new_run())
    assert snapshots.log_bytes(ledger.path) > 0
    ledger.close()
    assert snapshots.log_bytes(ledger.path) == 0
    assert names(ledger) == ["a-run"]


def test_a_ledger_is_closed_also_where_its_log_cannot_be_written_into_the_file(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "CLOSED_SHARE", 10**6)
    runs.register(ledger, new_run())
    with files_up_to(ledger.path.stat().st_size):
        ledger.close()
    assert "Make room" in caplog.text
    assert names(Ledger(ledger.home, wait_s=0.1)) == ["a-run"]
