"""A judge that misfits, through the whole job: what a run says and spends, and that mending it costs nothing twice."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from cyclealign.errors import EndpointRefused
from cyclealign.profiles import merge
from flows.train import train
from storage import runs
from storage.ledger import Ledger
from tests.black_box.model_server import ModelServer
from tests.flows.conftest import SMALL
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.serving import serving


@pytest.fixture
def judge() -> Iterator[ModelServer]:
    with serving(ModelServer()) as server:
        yield server


def asked_of(judge: ModelServer, **black_box: Any) -> dict[str, Any]:
    price = {"input": 1.0, "output": 2.0}
    settings = {"endpoint": "api", "base_url": judge.url, "price": price, "attempts": 1, "asks": 1, **black_box}
    return merge(SMALL, {"black_box": settings})


def as_arguments(overrides: dict[str, Any], prefix: str = "") -> list[str]:
    """The same settings on the command line."""
    found: list[str] = []
    for name, value in overrides.items():
        found += (
            as_arguments(value, f"{prefix}{name}.") if isinstance(value, dict) else ["--set", f"{prefix}{name}={value}"]
        )
    return found


def status(home: Path, run: str) -> runs.RunStatus:
    return runs.status(Ledger(home), run)[0]


def test_a_judge_that_takes_nothing_pauses_before_anything_is_computed_or_spent(home: Path, judge: ModelServer) -> None:
    judge.plan = lambda _number, _body: "422"
    with pytest.raises(EndpointRefused, match="in no form"):
        train(profile="laptop", overrides=asked_of(judge), run="misfit-refusing")
    found = status(home, "misfit-refusing")
    assert (found.state, found.rounds, found.spend_usd) == ("paused", 0, 0)


def test_a_judge_that_fails_for_a_while_ends_as_one_that_never_did(home: Path, judge: ModelServer) -> None:
    """Between two checkpoints it becomes unreadable; then it is down."""
    whole = train(profile="laptop", overrides=asked_of(judge), run="misfit-never")
    good = len(judge.requests)
    judge.plan = lambda number, _body: "good" if number - good < 5 else "prose" if number - good < 9 else "500"
    settings = asked_of(judge, max_tokens=1023)  # other calls than those before
    for advice in ("follows the prompt's form", "does not answer"):
        with pytest.raises(EndpointRefused, match=advice):
            train(profile="laptop", overrides=settings, run="misfit-mended")
    judge.plan = lambda _number, _body: "good"
    failed = len([one for one in judge.behaviours if one != "good"])
    mended = train(profile="laptop", overrides=settings, run="misfit-mended")
    assert (mended["weights_sha256"], mended["state"], mended["unranked"]) == (whole["weights_sha256"], "complete", 0)
    assert len(judge.requests) == 2 * good + failed
    assert set(differing_rows(EndedRun(home, "misfit-never"), EndedRun(home, "misfit-mended"))) <= {"runs"}


def test_a_run_whose_rounds_stay_unranked_says_so_everywhere(home: Path, judge: ModelServer) -> None:
    judge.plan = lambda _number, body: "prose" if zlib.crc32(str(body["messages"]).encode()) % 4 == 0 else "good"
    found = train(profile="laptop", overrides=asked_of(judge), run="misfit-partly")
    assert found["state"] == "incomplete"
    assert 0.1 < found["unranked"] < 0.6
    share = f"{100 * found['unranked']:.0f} %"
    assert f"{share} of its rounds could not be ranked and taught nothing (malformed" in found["state_reason"]
    shown = CliRunner().invoke(main, ["status"])
    assert share in shown.output
    ended = CliRunner().invoke(main, ["train", "--run", "misfit-partly", *as_arguments(asked_of(judge))])
    assert (ended.exit_code, ended.stdout.splitlines()[0].startswith("Run misfit-partly is incomplete: ")) == (4, True)


def test_what_the_ledger_shows_of_a_judge_is_noted(home: Path, judge: ModelServer) -> None:
    """It names what it is shown first, counts 100 prompt tokens whatever it reads, and is two models."""
    judge.say = lambda _body: '{"desired rank": [0, 1, 2], "response": "A better response."}'
    judge.plan = lambda number, _body: "other model" if number % 3 == 0 else "good"
    train(profile="laptop", overrides=asked_of(judge), run="misfit-swayed")
    notes = (home / "misfit-swayed" / "report" / "report.md").read_text()
    assert "came from several models: served-model" in notes
    assert "that it was shown first the best in" in notes
    assert "100 prompt tokens for every prompt" in notes
