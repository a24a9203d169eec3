"""Exhibits and history queries on a ledger of a million rounds: each has to answer within a second.

A short run of the laptop profile is multiplied in SQL: a hundred runs, each with the same rounds at later and later
steps, under keys of their own. Requests and raw replies are left out, which no question reads; so the file is smaller
than one that grew by itself, and its size stands in the note. A question is asked as the command line asks it, the file
opened anew; the figure is that of the slowest.
"""

# ruff: noqa: S608  the names in statements are those of our own tables and columns

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import duckdb

from benchmarks.laptop import RUN, build_world, new_home, train
from benchmarks.measuring import Row, seconds
from storage import exhibits, queries
from storage.asking import answer
from storage.ledger import Ledger

REPEATS = 3
RUNS = 100
ROUNDS = 1_000_000
STRETCH = 1000
"""Steps between two copies of the same round in a run."""
PER_STEP = (
    "sampled_rounds",
    "ranked_rounds",
    "trained_rounds",
    "candidate_rewards",
    "attempts",
    "outcomes",
    "verdicts",
    "checkpoints",
)
PER_RUN = ("registrations", "run_events", "sample_uses", "static_demonstrations", "system_roles", "continuations")
"""Tables that are multiplied; what systems said and what it was worth is shared, as between real runs."""
CHANGED: Mapping[str, str] = {
    "run_name": "run_name || '-' || r",
    "settings": """json_merge_patch(settings, '{"seed": ' || r || '}')""",
    "step": "step + k",
    "optimizer_step": "optimizer_step + k",
    "demonstrations_shown": "list_transform(demonstrations_shown, lambda number: number + k)",
    "admitted": """case when admitted is not null
        then struct_update(admitted, number := admitted.number + k, step := admitted.step + k) end""",
    "attempt": "(hash(attempt || '/' || r || '/' || k) >> 1)::bigint",
    "call_key": "md5(call_key || r || '/' || k)",
    "request": "'{}'::json",
    "reply": "case when reply is not null then struct_update(reply, raw := '') end",
    "raw": "null",
}
"""Columns of copy r of the run that differ, in the stretch that begins k steps later."""


def rows(repeats: int = REPEATS) -> list[Row]:
    """Seconds of the slowest question to a ledger of a million rounds."""
    with large_ledger() as home:
        asked = {name: [seconds(ask) for _ in range(repeats)] for name, ask in questions(home).items()}
        size = (home / "ledger.duckdb").stat().st_size / 2**30
        count = len(answer(home, "select 1 from rounds"))
    slowest = sorted(asked, key=lambda name: -median(asked[name]))
    named = ", ".join(f"{name} {median(asked[name]):.2f} s" for name in slowest[:3])
    note = f"{count:,} rounds in {RUNS} runs, {size:.1f} GiB; slowest of {len(asked)}: {named}"
    name = "exhibits and queries on a ledger of 1,000,000 rounds, the slowest"
    return [Row(name, tuple(asked[slowest[0]]), "s", note, at_most=1.0)]


def questions(home: Path) -> dict[str, Callable[[], object]]:
    """Every exhibit and every shipped query, of one run where it is about one run."""
    run = f"{RUN}-{RUNS // 2}"
    prompt = str(answer(home, f"select prompt_id from rounds where run_name = '{run}' limit 1").iloc[0, 0])
    known: dict[str, Callable[[], object]] = {}
    for name in queries.for_users():
        about_run = "$run_name" in queries.load(f"{queries.FOR_USERS}/{name}")
        more = f" run_name={run}" if about_run else ""
        more += f" prompt_id={prompt}" if name == "prompt_history" else ""
        known[name] = partial(answer, home, name + more)
    for name in exhibits.known():
        runs = () if exhibits.together(name) else (run,)
        known[name] = partial(exhibits.read_exhibit, Ledger(home), name, runs, {})
    return known


@contextmanager
def large_ledger(rounds: int = ROUNDS, runs: int = RUNS) -> Iterator[Path]:
    """A home whose ledger has so many rounds."""
    world = build_world()
    with tempfile.TemporaryDirectory() as folder:
        home = new_home(Path(folder), "large", world)
        train(home, {"data.prompts": 40, "evaluation.prompts_per_subset": 25})
        multiply(home / "ledger.duckdb", rounds, runs)
        yield home


def multiply(ledger: Path, rounds: int, runs: int) -> None:
    """Put `runs` copies of the ledger's only run into it, with `rounds` rounds in all of them together."""
    ledger.chmod(0o600)
    with duckdb.connect(str(ledger)) as connection:
        (there,) = connection.execute("select count(*) from sampled_rounds").fetchone() or (0,)
        for table in PER_RUN + PER_STEP:
            stretches = -(-rounds // (runs * there)) if table in PER_STEP else 1
            columns = [name for name, *_ in connection.execute(f"describe {table}").fetchall()]
            chosen = ", ".join(f"{CHANGED[name]} as {name}" if name in CHANGED else name for name in columns)
            copies = f"range(1, {runs + 1}) runs(r), range(0, {stretches * STRETCH}, {STRETCH}) stretches(k)"
            connection.execute(f"create temp table more as select {chosen} from {table}, {copies}")
            connection.execute(f"delete from {table}")
            connection.execute(f"insert into {table} by name select * from more order by {columns[0]}")
            connection.execute("drop table more")
        connection.execute("checkpoint")
