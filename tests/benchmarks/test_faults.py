"""The faults' accounts: what is counted as a broken claim, and a few questions through the whole of it."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks import aimock, faults
from benchmarks.fault_counts import Part, highest
from benchmarks.faults import own_server

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
GOOD = Part(
    server="a server",
    questions=3,
    answered=2,
    recorded=Counter({"malformed": 1}),
    stopped=Counter(),
    attempts=4,
    failures=Counter({"timeout": 1}),
    open_attempts=0,
    bought_twice=0,
    most_at_once=3,
    spend_usd=0.5,
    most_committed_usd=0.75,
    cap_usd=1.0,
    seconds=2.0,
    requests=4,
    charged_usd=0.5,
)


def attempt(start: int, end: int) -> dict[str, object]:
    """From so many seconds after noon to so many."""
    return {"started_at": NOON + timedelta(seconds=start), "ended_at": NOON + timedelta(seconds=end)}


def test_a_few_questions_keep_every_claim(tmp_path: Path) -> None:
    part = own_server(24, seed=0)
    assert part.broken_claims() == []
    assert part.answered + part.recorded.total() == 24
    assert 24 < part.requests == part.attempts


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"answered": 1}, "every question is answered or recorded"),
        ({"answered": 1, "stopped": Counter(EndpointRefused=1)}, "every question is answered or recorded"),
        ({"wrong": 1}, "no ranking but the server's"),
        ({"open_attempts": 1}, "no attempt is left open"),
        ({"bought_twice": 1}, "no answer is bought twice"),
        ({"requests": 5}, "no request without its attempt"),
        ({"most_at_once": 17}, "at most 16 at once"),
        ({"most_committed_usd": 1.01}, "the cap is never exceeded"),
        ({"charged_usd": 0.51}, "spend covers what was charged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_claim_is_named(changes: dict[str, object], claim: str) -> None:
    assert GOOD.broken_claims() == []
    broken = replace(GOOD, **changes)  # type: ignore[arg-type]
    assert broken.broken_claims() == [claim]
    assert f"BROKEN: {claim}" in broken.as_text()


def test_the_counts_are_written_as_json() -> None:
    written = json.loads(json.dumps(replace(GOOD, before_the_cap_was_raised=GOOD).as_dict()))
    assert written["recorded"] == written["before_the_cap_was_raised"]["recorded"] == {"malformed": 1}


def test_questions_that_the_cap_stopped_are_accounted_for() -> None:
    assert replace(GOOD, answered=1, stopped=Counter(BudgetReached=1)).broken_claims() == []


def test_the_highest_level_counts_what_overlaps() -> None:
    rows = [attempt(0, 2), attempt(1, 3), attempt(3, 4)]
    assert highest([(row, 1, -1) for row in rows]) == 2
    assert highest([(row, 0.5, -0.25) for row in rows]) == 1.0


def test_half_of_the_requests_fail() -> None:
    drawn = Counter(faults.behaviour(0, number) for number in range(2000))
    assert 900 < drawn["good"] < 1100
    assert set(drawn) == {"good", *faults.FAULTS}


def test_without_npm_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(aimock.AimockMissing, match=r"npm was not found\. Install Node\.js"):
        aimock.install(tmp_path)
