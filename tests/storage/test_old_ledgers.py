"""Ledgers of released schema versions: they are brought up to date whole, or stay as they were.

The files in `tests/storage/ledgers` were written by the code of their version: a tiny run of the real flow that ended,
one that was refused halfway, and rows in every other table (`tests/storage/ledgers/make.py`).
"""

import gzip
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cyclealign.errors import UsageError
from storage import calls, checkpoints, figures, migrations, queries, resumptions, rounds, runs, samples, snapshots
from storage.ledger import Ledger
from storage.migrations import Migration
from tests.storage.conftest import RunScript
from tests.storage.test_calls import REPLY, description

RELEASED = (1, 4, 5)
"""Schema versions of releases; each has its stored file."""
FOLDER = Path(__file__).parent / "ledgers"
EXHIBITS = sorted(path.stem for path in (Path(__file__).parents[2] / "sql" / "exhibits").glob("*.sql"))
QUESTIONS_THEN = (
    *("agreement_over_steps", "calls_asked_again", "demonstrations_shown", "filter_counts", "prompt_history"),
    *("rankings_side_by_side", "spend_by_day", "spend_by_purpose_and_model", "unranked_rounds"),
)
EXHIBITS_THEN = (
    *("run_agreement", "run_cases", "run_demonstrations", "run_filter", "run_losses", "run_ranking_accuracy"),
    *("run_ranking_agreement", "run_rewards", "run_scores", "run_settings", "run_spend", "run_text"),
    *("run_timings", "run_unranked"),
)
"""What version 1 had rows for, in every stored ledger; others must not fail."""
Rows = dict[str, list[tuple[Any, ...]]]


def with_ledger(home: Path, version: int) -> Path:
    """The home with the ledger in it that is stored of this version."""
    stored = FOLDER / f"v{version}.duckdb.gz"
    (home / "ledger.duckdb").write_bytes(gzip.decompress(stored.read_bytes()))
    return home


@pytest.fixture(params=RELEASED, ids=lambda version: f"v{version}")
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A home with a stored ledger in it."""
    return with_ledger(tmp_path, request.param)


@pytest.fixture
def migrated(home: Path) -> Iterator[Ledger]:
    """The same after this version's code has opened it."""
    ledger = Ledger(home)
    with ledger.session():
        pass
    yield ledger
    ledger.close()


def test_what_brought_a_ledger_up_to_date_is_in_the_file_and_not_in_its_log(migrated: Ledger) -> None:
    assert snapshots.log_bytes(migrated.path) == 0


def columns_of(home: Path) -> dict[str, str]:
    """The columns of every table of a home's ledger, as a list to select."""
    with duckdb.connect(str(home / "ledger.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "select table_name, string_agg(column_name, ', ' order by column_index) from duckdb_columns() "
            "inner join duckdb_tables() using (table_name) where not duckdb_tables.internal group by table_name"
        )
        return dict(rows.fetchall())


def rows_of(home: Path, columns: dict[str, str] | None = None) -> Rows:
    """Every row of every table of a home's ledger, or of these columns of these tables."""
    columns = columns_of(home) if columns is None else columns
    with duckdb.connect(str(home / "ledger.duckdb"), read_only=True) as connection:
        return {
            table: connection.execute(f"select {selected} from {table} order by all").fetchall()
            for table, selected in columns.items()
        }


def old_versions(home: Path) -> tuple[Migration, ...]:
    """The migrations that the file in a home has seen."""
    return migrations.shipped()[: len(rows_of(home, {"schema_migrations": "version"})["schema_migrations"])]


def test_every_release_has_a_stored_ledger_and_every_stored_ledger_a_release() -> None:
    assert {path.name for path in FOLDER.glob("*.gz")} == {f"v{version}.duckdb.gz" for version in RELEASED}


def test_a_stored_ledger_has_rows_in_every_table(home: Path) -> None:
    assert [table for table, rows in rows_of(home).items() if not rows] == []


def test_an_old_ledger_is_brought_up_to_date_and_keeps_every_row(home: Path) -> None:
    columns, before = columns_of(home), rows_of(home)
    ledger = Ledger(home)
    states = {run.name: run.state for run in runs.status(ledger)}
    assert states == {"complete": "complete", "halfway": "paused"}
    ledger.close()
    after = rows_of(home, columns)
    applied = before.pop("schema_migrations")
    assert after["schema_migrations"][: len(applied)] == applied
    assert [row[0] for row in after.pop("schema_migrations")] == [one.version for one in migrations.shipped()]
    assert after == before


def asked(ledger: Ledger, query: str, **known: object) -> list[dict[str, Any]]:
    """The rows of a shipped query as a user asks it; parameters that are not known are null."""
    statement = queries.load(query)
    wanted = duckdb.extract_statements(statement)[0].named_parameters
    frame, source = ledger.query_anywhere(statement, {name: known.get(name) for name in wanted} or None)
    assert source == "ledger"
    return frame.to_dict("records")


@pytest.fixture(scope="module", params=RELEASED, ids=lambda version: f"v{version}")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A stored ledger that a user asks one question after another: only the first meets it as it was stored."""
    ledger = Ledger(with_ledger(tmp_path_factory.mktemp("found"), request.param))
    yield ledger
    ledger.close()


@pytest.mark.parametrize("name", queries.for_users())
def test_every_question_can_be_asked_of_an_old_ledger(found: Ledger, name: str) -> None:
    rows = asked(found, f"ask/{name}")
    assert rows or name not in QUESTIONS_THEN


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_exhibit_can_be_made_of_an_old_ledger(found: Ledger, name: str) -> None:
    rows = asked(found, f"exhibits/{name}", run_name="complete", bins=2, cases=3, reward_model="world:quality")
    assert rows or name not in EXHIBITS_THEN


def test_a_snapshot_of_an_old_version_answers_what_it_can_and_says_what_it_is(home: Path) -> None:
    (home / "ledger.duckdb").rename(home / "snapshot.duckdb")
    ledger = Ledger(home)
    assert len(ledger.query_anywhere("select run_name from runs")[0]) == 2
    with pytest.raises(UsageError, match=r"written by an older cyclealign, with schema version [145]: ask again"):
        ledger.query_anywhere("select count(*) from what_came_later")


def test_the_pairs_of_an_old_ledgers_candidates_are_counted(migrated: Ledger) -> None:
    counted = asked(migrated, "exhibits/figure_4", bins=1)
    accuracies = asked(migrated, "exhibits/run_ranking_accuracy", run_name="complete", bins=1)
    assert [(row["reward_model"], row["pairs"], row["accuracy"]) for row in counted] == [
        (row["reward_model"], row["pairs"], row["black_box_accuracy"]) for row in accuracies
    ]
    assert counted


def test_the_report_of_an_old_run_can_be_written(migrated: Ledger) -> None:
    found = figures.collect(migrated, "complete")
    assert (found.run.name, found.run.state) == ("complete", "complete")


def test_a_run_that_stopped_under_an_old_version_can_be_continued(migrated: Ledger) -> None:
    prompts = samples.read(migrated, samples.of_run(migrated, "halfway", "training") or "")
    recorded = rounds.recorded(migrated, "halfway", 0, len(prompts))
    assert any(one.trained for one in recorded.values())
    assert any(one.ranked is None for one in recorded.values())
    assert checkpoints.latest(migrated, "complete") is None  # its files are not stored
    assert resumptions.begin(migrated, "halfway", 0) is not None
    attempt = calls.begin_attempt(migrated, description(), Decimal("0.5"), cap=None)
    calls.settle(migrated, attempt, REPLY, Decimal("0.25"))
    assert calls.spend(migrated, "a-run") == Decimal("0.25")


BROKEN = "drop table rounds; create table more (x integer); select nonsense"


def test_a_migration_that_fails_leaves_an_old_ledger_byte_for_byte(home: Path) -> None:
    path = home / "ledger.duckdb"
    before, old = path.read_bytes(), old_versions(home)
    broken = Migration(9999, "broken", BROKEN)
    with duckdb.connect(str(path)) as connection, pytest.raises(duckdb.Error, match="nonsense"):
        migrations.migrate(connection, path, [*migrations.shipped(), broken])
    assert path.read_bytes() == before
    with duckdb.connect(str(path)) as connection:  # as the old version would
        migrations.migrate(connection, path, old)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import duckdb
    from storage import migrations
    path, moment = Path(sys.argv[1]), sys.argv[2]

    def die() -> int:
        os.kill(os.getpid(), signal.SIGKILL)

    connection = duckdb.connect(str(path))
    connection.create_function("die", die, [], "integer", side_effects=True)
    pending = [*migrations.shipped()]
    if moment == "in the middle":
        pending.append(migrations.Migration(9999, "next", "create table next (x integer); select die();"))
    migrations.migrate(connection, path, pending)
    die()
    """


@pytest.mark.parametrize("moment", ["in the middle", "right after the commit"])
def test_a_process_killed_while_it_migrates_leaves_a_usable_ledger(home: Path, script: RunScript, moment: str) -> None:
    columns, before, old = columns_of(home), rows_of(home), old_versions(home)
    process = script(KILLED, home / "ledger.duckdb", moment)
    assert process.wait() == -signal.SIGKILL, process.communicate()[1]
    killed = old_versions(home)  # DuckDB reads its write-ahead log first
    assert killed == (old if moment == "in the middle" else migrations.shipped())
    with Ledger(home).session() as session:
        assert len(session.rows("schema/applied")) == len(migrations.shipped())
    Ledger(home).close()
    after = rows_of(home, columns)
    del before["schema_migrations"], after["schema_migrations"]
    assert after == before
