"""Given a few rows, each query for users answers with exactly these."""

import os
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from storage import calls, queries, resumptions
from storage.dialogues import PreparedDataset
from storage.ledger import Ledger
from storage.rounds import StaticDemonstration
from tests.storage.test_calls import REPLY, call_of
from tests.storage.values import ranked, sampled, trained, unranked

RUN = "a-run"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Two steps: step 0 ranked in two rounds, step 1 never; and another run with one round."""
    opened = Ledger(tmp_path)
    opened.record(StaticDemonstration(RUN, STATIC_DEMONSTRATION))
    opened.record(sampled(0), sampled(1), ranked(0, number=1), unranked(1), trained(0))
    opened.record(sampled(0, 2), sampled(1, 2), ranked(0, 2), unranked(1, 2))
    opened.record(sampled(30, wave=30, run_name="another"), ranked(30, run_name="another"))
    yield opened
    opened.close()


def ask(ledger: Ledger, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with ledger.session() as session:
        text = queries.load(f"questions/{name}")
        known = dict.fromkeys(re.findall(r"\$(\w+)", text))
        return [tuple(row.values()) for row in session.rows(f"questions/{name}", **{**known, **parameters})]


def test_prompt_history_shows_each_response_of_each_round(ledger: Ledger) -> None:
    rows = ask(ledger, "prompt_history", run_name=RUN, prompt_id="p0")
    assert [row[1:8] for row in rows] == [
        (0, 1, "p0", 0, "candidate", 0, 0),
        (0, 1, "p0", 1, "candidate", 2, 1),
        (0, 1, "p0", 2, "candidate", 1, 2),
        (0, 1, "p0", -1, "rewrite", None, None),
        (0, 2, "p0", 0, "candidate", 0, 0),
        (0, 2, "p0", 1, "candidate", 2, 1),
        (0, 2, "p0", 2, "candidate", 1, 2),
        (0, 2, "p0", -1, "rewrite", None, None),
    ]
    assert [row[9] for row in rows] == ["trained"] * 4 + ["ranked"] * 4
    assert rows[3][-1] == "rewrite of 0"
    assert len(ask(ledger, "prompt_history")) == 2 * 4 + 2 * 3 + 4


def test_rankings_side_by_side(ledger: Ledger) -> None:
    assert ask(ledger, "rankings_side_by_side", run_name=RUN) == [
        (RUN, 0, 1, [0, 2, 1], [0, 1, 2], [0, 2], False),
        (RUN, 0, 2, [0, 2, 1], [0, 1, 2], [0, 2], False),
        (RUN, 1, 1, None, [0, 1, 2], None, None),
        (RUN, 1, 2, None, [0, 1, 2], None, None),
    ]
    assert [row[0] for row in ask(ledger, "rankings_side_by_side", step=30)] == ["another"]


def test_agreement_over_steps_counts_ranked_rounds_in_groups(ledger: Ledger) -> None:
    assert ask(ledger, "agreement_over_steps") == [
        (RUN, 0, 2, 2.0, pytest.approx(2 / 3), 0.0),
        ("another", 25, 1, 2.0, pytest.approx(2 / 3), 0.0),
    ]


def test_demonstrations_shown(ledger: Ledger) -> None:
    rows = ask(ledger, "demonstrations_shown", run_name=RUN)
    assert [row[1:9] for row in rows] == [
        (0, "static", None, None, 2, 0, 0, [1, 3, 2, 0]),
        (1, "dynamic", 0, 1, 2, 0, 0, [1, 0]),
    ]
    assert rows[1][-1] == "better"


def test_spend_and_calls_asked_again(ledger: Ledger) -> None:
    first = calls.begin_attempt(ledger, call_of("0.5"), cap=None)
    calls.fail_attempt(ledger, first, "rate_limit", 429)
    second = calls.begin_attempt(ledger, call_of("0.5"), cap=None)
    calls.settle(ledger, second, REPLY, Decimal("0.25"))
    calls.begin_attempt(ledger, call_of("0.125", 1), cap=None)
    assert ask(ledger, "spend_by_purpose_and_model") == [(RUN, "ranking", "a-model", 2, 3, 1, 1, 1, Decimal("0.375"))]
    assert ask(ledger, "calls_asked_again", run_name=RUN) == [
        (RUN, 3, 1, 1, "ranking", "answered", 2, {"rate_limit": 1}, Decimal("0.25"), call_of().call_key)
    ]
    assert ask(ledger, "calls_asked_again", run_name="another") == []


def test_spend_by_day_counts_days_of_utc(ledger: Ledger) -> None:
    started = {"2026-03-13 23:30:00+00": "0.5", "2026-03-14 00:30:00+01": "0.25", "2026-03-14 12:00:00+00": "0.125"}
    numbers = [
        calls.begin_attempt(ledger, call_of(reserve, slot), cap=None) for slot, reserve in enumerate(started.values())
    ]
    ledger.close()
    ledger.path.chmod(0o600)
    with duckdb.connect(str(ledger.path)) as connection:
        for number, moment in zip(numbers, started, strict=True):
            connection.execute("update attempts set started_at = ? where attempt = ?", [moment, number])
    rows = [
        (RUN, date(2026, 3, 13), "ranking", "a-model", 2, 2, Decimal("0.75")),
        (RUN, date(2026, 3, 14), "ranking", "a-model", 1, 1, Decimal("0.125")),
    ]
    assert ask(ledger, "spend_by_day") == rows
    assert ask(ledger, "spend_by_day", run_name="another") == []


def test_resumptions_tell_what_was_replayed_and_where_new_rounds_began(ledger: Ledger) -> None:
    assert resumptions.begin(ledger, "a-new-run", 0) is None
    killed_soon = resumptions.begin(ledger, RUN, 0)
    got_far = resumptions.begin(ledger, RUN, 2)
    assert killed_soon is not None
    assert got_far is not None
    killed_soon.turn_done([sampled(0), sampled(1)], [trained(0)], replayed=True)
    got_far.turn_done([sampled(2), sampled(3)], [trained(2), trained(3)], replayed=True)
    got_far.turn_done([sampled(2, 2)], [trained(2, 2)], replayed=True)
    got_far.turn_done([sampled(3, 2)], [], replayed=False)
    got_far.turn_done([sampled(4)], [trained(4)], replayed=False)
    rows = ask(ledger, "resumptions", run_name=RUN)
    assert [row[:2] + row[4:] for row in rows] == [
        (RUN, 1, os.getpid(), 0, 2, 1, 0.5, None),
        (RUN, 2, os.getpid(), 2, 3, 3, 1.5, 3),
    ]
    assert ask(ledger, "resumptions", run_name="another") == []


def test_unranked_rounds_by_reason(ledger: Ledger) -> None:
    assert ask(ledger, "unranked_rounds") == [(RUN, "malformed", 2, 0.5, 1, 1)]


def test_filter_counts_stand_beside_the_papers(ledger: Ledger) -> None:
    files = [
        {"subset": "generated", "split": "train", "rows_read": 3, "pairs_kept": 3},
        {"subset": "harmless-base", "split": "test", "rows_read": 9, "pairs_kept": 9},
        {"subset": "harmless-base", "split": "train", "rows_read": 10, "pairs_kept": 7},
    ]
    dropped = [
        {"subset": "harmless-base", "split": "train", "reason": "empty_reply", "pairs_dropped": 1},
        {"subset": "harmless-base", "split": "train", "reason": "test_prompt", "pairs_dropped": 2},
    ]
    ledger.record(PreparedDataset("d", "folder", "here", {}, files, dropped))
    assert ask(ledger, "filter_counts", dataset_digest="d") == [
        ("d", "harmless-base", "train", 10, {"empty_reply": 1, "test_prompt": 2}, 7, 42537),
        ("d", "harmless-base", "test", 9, None, 9, 2312),
        ("d", "generated", "train", 3, None, 3, None),
    ]
