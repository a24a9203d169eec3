"""Makes the stored ledger of the present schema version: `python -m tests.storage.ledgers.make`, at a release.

A tiny run of the real flow over HTTP, whose endpoint fails now and then and gives answers that cannot be read; a
second run that was refused in the middle; and rows for the tables that such runs leave empty. What names the machine
is replaced. The file is `v<version>.duckdb.gz` beside this one.
"""

import gzip
import os
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cyclealign.errors import EndpointRefused
from cyclealign.profiles import merge
from storage import calls, evaluations, migrations
from storage.ledger import Ledger
from tests.flows.conftest import SMALL
from tests.flows.judge_server import JudgeServer
from tests.storage.test_calls import description

FOLDER = Path(__file__).parent
TINY = merge(SMALL, {"data": {"prompts": 4}, "evaluation": {"prompts_per_subset": 1}})
NAMES_THE_MACHINE = """
    update runs set machine = '{"platform": "Linux", "cores": 2}';
    update runs set process_host = 'a-host' where process_host is not null;
    update runs set adapter_path = '/home/somebody/runs/' || run_name || '/adapter' where adapter_path is not null;
    update api_attempts set process_host = 'a-host';
    update datasets set location = '/home/somebody/runs/world';
    """
ROWS_OF_OTHER_RUNS = """
    insert into filter_drops select dataset_digest, 'harmless-base', 'train', 'empty_reply', 2 from datasets;
    insert into comparisons
    select 'c', min(generation_id), max(generation_id), 'somebody', 'person', 'tie', null, null, now()
    from generations;
    insert into optimizer_steps values ('complete', 0, 2, 0.5, 0.4, 0.1, null, 1.0, 1e-3, 0.01, now());
    insert into batches values ('b', 'complete', 'an-origin', 'collected', 'f', 'p', null, now(), now(), now());
    insert into batch_calls select 'b', min(call_key), 1 from api_calls;
    insert into audits select 'complete', 1, 0, 1, [1, 0, 2], [0, 1, 2], null, min(call_key), now() from api_calls;
    insert into resumptions values ('complete', 1, 'a-host', 1, 0.0, 0, 2, 1, 0.5, 1, now());
    """


class Unreliable(JudgeServer):
    """Fails at first, then gives one answer that is none: 500, 429, no JSON, prose; after that it is good."""

    _faults: tuple[Response, ...] = (
        JSONResponse({"error": {"message": "internal"}}, 500),
        JSONResponse({"error": {"message": "slow down"}}, 429),
        Response("{", media_type="application/json"),
        JSONResponse({"choices": [{"message": {"content": "The first one."}, "finish_reason": "stop"}]}),
    )

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One chat completion."""
        if not self._faults:
            await super().handle(scope, receive, send)
            return
        fault, self._faults = self._faults[0], self._faults[1:]
        await fault(scope, receive, send)


def fill(home: Path) -> None:
    """Run a tiny run to its end and another one halfway."""
    from prefect.testing.utilities import prefect_test_harness

    from flows.train import train

    black_box = {"endpoint": "api", "price": {"input": 1.0, "output": 2.0}, "budget_usd": 5.0, "asks": 1}
    with prefect_test_harness(server_startup_timeout=120), Unreliable(home, TINY) as judge:
        settings: dict[str, Any] = merge(TINY, {"black_box": {**black_box, "base_url": judge.url}})
        train(profile="laptop", overrides=settings, run="complete")
        judge.refuse_after(5)
        try:
            train(profile="laptop", overrides=merge(settings, {"seed": 1}), run="halfway")
        except EndpointRefused:
            return
    raise RuntimeError("the second run was not refused")


def complete(home: Path) -> None:
    """Rows in every table; one attempt stays in flight for ever."""
    ledger = Ledger(home)
    calls.begin_attempt(ledger, description(run_name="halfway"), Decimal("0.5"), cap=None)
    accuracy = evaluations.PreferenceAccuracy("all", 120, 0.6)
    evaluations.put_preference_accuracies(ledger, "a-preference-model", [accuracy])
    evaluations.put_preference_correlation(ledger, "a-preference-model", "another", 120, 0.8)
    ledger.close()
    with duckdb.connect(str(ledger.path)) as connection:
        connection.execute(ROWS_OF_OTHER_RUNS)
        connection.execute(NAMES_THE_MACHINE)


def copy(old: Path, new: Path) -> None:
    """The rows alone in a fresh file, whose free blocks hold nothing of the machine."""
    with duckdb.connect(str(new)) as connection:
        migrations.migrate(connection, new)
        connection.execute(f"attach '{old}' as old (read_only)")
        tables = connection.execute(
            "select table_name from duckdb_tables() where database_name = 'old' and table_name <> 'schema_migrations'"
        )
        for (table,) in tables.fetchall():
            connection.execute(f"insert into {table} select * from old.{table}")
        drawn = connection.execute("select max(attempt) from api_attempts").fetchone()
        assert drawn is not None
        connection.execute(f"select nextval('api_attempt_numbers') from range({drawn[0]})").fetchall()


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        home, new = Path(folder) / "home", Path(folder) / "new.duckdb"
        os.environ["CYCLEALIGN_HOME"] = str(home)
        fill(home)
        complete(home)
        copy(home / "ledger.duckdb", new)
        version = migrations.shipped()[-1].version
        stored = gzip.compress(new.read_bytes(), 9, mtime=0)
        (FOLDER / f"v{version}.duckdb.gz").write_bytes(stored)


if __name__ == "__main__":
    main()
