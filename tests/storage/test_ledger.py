"""The ledger: what was recorded is read by everybody at once, posted whole, and never lost, doubled or out of sight."""

import random
import signal
import threading
import time
from pathlib import Path

import duckdb
import pytest

from cyclealign.errors import LedgerError, LedgerForeign, LedgerOnNetwork, StorageFull, UsageError
from storage import file_systems, queries, runs
from storage.evaluations import RewardScore
from storage.file_systems import Mount
from storage.journal import journals
from storage.ledger import Ledger
from storage.posting import post
from tests.full_disk import files_up_to
from tests.storage.conftest import RunScript
from tests.storage.values import new_run, ranked, sampled, trained

SCORES = "select count(*) as n, count(distinct generation_id) as kinds from reward_scores"
WRITE = """
    import sys
    from pathlib import Path
    from storage.evaluations import RewardScore
    from storage.ledger import Ledger
    ledger, name, number = Ledger(Path(sys.argv[1])), sys.argv[2], 0
    while True:
        ledger.record(RewardScore(f"{name}-{number}", "m", 0.5), RewardScore(f"{name}-{number + 1}", "m", 0.5))
        number += 2
        print(number, flush=True)
    """
HOLD = """
    import sys
    import duckdb
    connection = duckdb.connect(sys.argv[1])
    print("held", flush=True)
    sys.stdin.readline()
    """
POST = """
    import sys
    from pathlib import Path
    from storage.ledger import Ledger
    while True:
        Ledger(Path(sys.argv[1])).post()
        print("posted", flush=True)
    """


def score(generation_id: str = "g", reward: float = 0.5) -> RewardScore:
    return RewardScore(generation_id, "m", reward)


def scores(ledger: Ledger) -> list[str]:
    return list(ledger.query("select generation_id from reward_scores order by all")["generation_id"])


def test_what_was_recorded_is_read_before_it_is_posted_and_after(ledger: Ledger) -> None:
    ledger.record(score("a"))
    assert scores(ledger) == ["a"]
    assert not ledger.path.exists()
    ledger.post()
    ledger.record(score("b"))
    assert scores(ledger) == ["a", "b"]
    ledger.post()
    assert scores(ledger) == ["a", "b"]
    with duckdb.connect(str(ledger.path), read_only=True) as connection:
        assert connection.execute(SCORES).fetchall() == [(2, 2)]


def test_a_fact_that_is_there_stays_as_it_is(ledger: Ledger) -> None:
    ledger.record(score("a", 1.0), score("a", 2.0))
    ledger.record(score("a", 3.0))
    ledger.post()
    ledger.record(score("a", 4.0))
    for _ in range(2):
        assert ledger.query("select reward from reward_scores")["reward"].tolist() == [1.0]
        ledger.post()


def test_the_last_committed_line_of_another_process_is_seen(ledger: Ledger, script: RunScript) -> None:
    ledger.record(score("mine"))
    other = script(WRITE, ledger.home, "theirs")
    assert other.stdout is not None
    acknowledged = [int(other.stdout.readline()) for _ in range(20)][-1]
    assert len(scores(ledger)) >= acknowledged + 1


def test_the_journals_of_the_dead_go_when_they_are_posted_and_those_of_the_living_stay(
    ledger: Ledger, script: RunScript
) -> None:
    ledger.record(score("mine"))
    other = script(WRITE, ledger.home, "theirs")
    assert other.stdout is not None
    other.stdout.readline()
    other.kill()
    other.wait()
    ledger.post()
    assert len(journals(ledger.journals)) == 1
    ledger.close()
    assert journals(ledger.journals) == []
    assert "mine" in scores(ledger)


def test_a_client_that_holds_the_file_open_changes_nothing(ledger: Ledger) -> None:
    ledger.record(score("a"))
    ledger.post()
    with duckdb.connect(str(ledger.path), read_only=True) as client:
        ledger.record(score("b"))
        ledger.post()
        assert client.execute(SCORES).fetchall() == [(1, 1)]
        assert scores(ledger) == ["a", "b"]


def test_a_client_that_opened_the_file_for_writing_stops_neither_readers_nor_postings(
    ledger: Ledger, script: RunScript
) -> None:
    ledger.record(score("a"))
    ledger.close()
    ledger.path.chmod(0o600)
    other = script(HOLD, ledger.path)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert scores(ledger) == ["a"]
    ledger.record(score("b"))
    ledger.post()
    assert scores(ledger) == ["a", "b"]


def test_the_ledger_and_journals_are_for_the_user_alone_where_the_user_says_so(ledger: Ledger) -> None:
    import os

    before = os.umask(0o077)
    try:
        ledger.record(score())
        ledger.post()
    finally:
        os.umask(before)
    assert ledger.path.stat().st_mode & 0o777 == 0o400


def test_a_stray_log_beside_the_file_is_not_replayed_into_the_next_one(ledger: Ledger) -> None:
    ledger.record(score("a"))
    ledger.post()
    stray = Path(f"{ledger.path}.wal")
    stray.write_bytes(b"of a client that opened the file for writing")
    ledger.record(score("b"))
    ledger.post()
    assert not stray.exists()
    assert scores(ledger) == ["a", "b"]


def test_threads_take_turns(ledger: Ledger) -> None:
    def work(number: int) -> None:
        ledger.record(score(f"{number}"))
        assert f"{number}" in scores(ledger)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scores(ledger)) == 8


def test_a_full_disk_in_a_posting_is_told_and_nothing_is_lost(ledger: Ledger) -> None:
    ledger.record(score("a"))
    ledger.post()
    ledger.record(*(score(f"{number:0100}") for number in range(3000)))
    with pytest.raises(StorageFull, match=r"nothing|safe"), files_up_to(ledger.path.stat().st_size + 4096):
        ledger.post()
    assert not ledger.path.with_suffix(".new").exists()
    assert len(scores(ledger)) == 3001
    ledger.post()
    assert len(scores(ledger)) == 3001


def test_two_posters_do_not_disturb_each_other_and_one_may_leave_it_to_the_other(ledger: Ledger) -> None:
    ledger.record(score())
    taken: list[bool] = []

    def post_beside(_: object) -> None:
        taken.append(post(ledger.path, ledger.journals, unless_taken=True))

    assert post(ledger.path, ledger.journals, also=post_beside)
    assert taken == [False]


@pytest.mark.parametrize("content", [b"", b"hello world" * 1000], ids=["empty", "text"])
def test_a_foreign_file_in_the_ledgers_place_is_refused(ledger: Ledger, content: bytes) -> None:
    ledger.home.mkdir()
    ledger.path.write_bytes(content)
    for use in (scores, lambda one: one.record(score()) or one.post()):
        with pytest.raises(LedgerForeign, match=r"not a (usable )?ledger"):
            use(ledger)
    assert ledger.path.read_bytes() == content


def test_another_database_is_refused_and_left_alone(ledger: Ledger) -> None:
    ledger.home.mkdir()
    with duckdb.connect(str(ledger.path)) as connection:
        connection.execute("create table birds (name varchar)")
    ledger.record(score())
    for use in (scores, Ledger.post):
        with pytest.raises(LedgerForeign, match="no table of postings"):
            use(ledger)
    with duckdb.connect(str(ledger.path)) as connection:
        assert connection.execute("select table_name from duckdb_tables()").fetchall() == [("birds",)]


def test_a_ledger_of_another_schema_is_taken_over_as_far_as_there_are_columns(ledger: Ledger) -> None:
    ledger.record(score("a"))
    ledger.close()
    ledger.path.chmod(0o600)
    with duckdb.connect(str(ledger.path)) as connection:
        connection.execute("alter table reward_scores add column mood varchar")
        connection.execute("alter table generations drop column seconds")
        connection.execute("drop table verdicts")
    assert scores(ledger) == ["a"]
    assert "seconds" in ledger.query("select * from generations")
    assert "mood" not in ledger.query("select * from reward_scores")


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((LedgerError, NotADirectoryError), match="Not a directory"):
        Ledger(tmp_path / "file" / "home").record(score())


def test_a_home_on_a_network_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerOnNetwork, match="CYCLEALIGN_ALLOW_NETWORK_HOME"):
        file_systems.refuse_network(tmp_path / "journal", [Mount(tmp_path, "nfs4")], allowed=False)


@pytest.mark.parametrize(
    "statement",
    ["create table x (a integer)", "select 1; select 2", "selekt", "", "drop view runs", "copy runs to 'x.csv'"],
)
def test_only_one_reading_statement_is_answered(ledger: Ledger, statement: str) -> None:
    ledger.record(score())
    with pytest.raises(UsageError, match="Expected one reading statement"):
        ledger.query(statement)
    assert scores(ledger) == ["g"]


def test_an_empty_home_says_what_to_do(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=r"No ledger in .*CYCLEALIGN_HOME"):
        ledger.query("select 1")


def test_every_view_and_question_can_be_asked_of_an_empty_ledger_and_of_a_file(ledger: Ledger) -> None:
    ledger.record(new_run(), sampled(0), ranked(0, number=1), trained(0))
    for _ in range(2):
        for name in queries.for_users():
            with ledger.session() as session:
                statement = queries.load(f"questions/{name}")
                words = dict.fromkeys(queries.parameters(statement))
                session.frame(f"questions/{name}", **words)
        assert runs.get(ledger, "a-run").seed == 7
        ledger.post()


def test_no_fact_is_lost_doubled_or_out_of_sight_when_writers_and_posters_are_killed(
    ledger: Ledger, script: RunScript
) -> None:
    """A short form of `make chaos JOURNAL=…`, whose kills are counted in hundreds."""
    drawn, acknowledged, seen = random.Random(3), 0, 0
    for life in range(6):
        writer, poster = script(WRITE, ledger.home, f"w{life}"), script(POST, ledger.home)
        assert writer.stdout is not None
        last = int(writer.stdout.readline())
        until = time.monotonic() + drawn.uniform(0.2, 0.8)
        while time.monotonic() < until:
            last = int(writer.stdout.readline())
        for process in drawn.sample((writer, poster), 2):
            process.send_signal(signal.SIGKILL)
            process.wait()
        rest = [int(line) for line in writer.stdout.read().split("\n")[:-1] if line]
        acknowledged += max([last, *rest])
        row = ledger.query(SCORES).iloc[0]
        assert row["n"] == row["kinds"] >= max(acknowledged, seen)
        seen = int(row["n"])
    ledger.post()
    assert journals(ledger.journals) == []
    assert int(ledger.query(SCORES)["n"].iloc[0]) == seen
