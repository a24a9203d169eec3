"""`cyclealign exhibit` and `cyclealign annotate` as a user meets them; they need no Prefect, so no harness."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import httpx2
import pytest

from storage import evaluations, runs, samples
from storage.comparisons import PersonVerdicts, read_pairs
from storage.evaluations import Generation, RunSystem, System
from storage.ledger import Ledger
from tests.command_line import assert_refused, run
from tests.storage.values import new_run, pair

SETTINGS = {"temperature": 0.8}
BOTH = ("before", "after")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A home whose run has three prompts with responses before and after."""
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    opened = Ledger(tmp_path)
    runs.register(opened, new_run())
    prompts = tuple(pair(f"Question {number}", split="test") for number in range(3))
    samples.put(opened, "s", "evaluation", "d", prompts)
    samples.use(opened, "a-run", "evaluation", "s")
    for role in BOTH:
        system = System(role, {"model": role})
        opened.record(system)
        run_system = RunSystem("a-run", role, system.system_id, evaluations.generation_digest(SETTINGS))
        evaluations.put_run_system(opened, run_system)
        opened.record(
            *(
                Generation(system.system_id, one.prompt.prompt_id, SETTINGS, f"by {role}", 3, True, 0.0, 0.5)
                for one in prompts
            )
        )
    yield opened
    opened.close()


@contextmanager
def annotating(home: Path, *options: str) -> Iterator[httpx2.Client]:
    """A client of the page that the command serves; interrupted at the end."""
    command = [sys.executable, "-m", "cli.main", "annotate", "a-run", "--port", "0", *options]
    environment = {**os.environ, "CYCLEALIGN_HOME": str(home)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[0]
        headers = {"origin": address.rstrip("/")}
        with httpx2.Client(base_url=address, headers=headers, trust_env=False, timeout=30) as client:
            yield client
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 3
        assert "the same command continues" in process.stderr.read()


def test_verdicts_reach_the_ledger_while_another_process_uses_it(ledger: Ledger) -> None:
    with annotating(ledger.home, "--annotator", "Ann") as page:
        for verdict in ("first", "tie"):
            html = page.get("/pairs").text
            found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html.split("</form>")[0]))
            form = {key: unescape(value) for key, value in found.items()}
            assert page.post("/verdict", data={**form, "verdict": verdict}).status_code == 303
            runs.record_estimate(ledger, "a-run", {"while": verdict})
        assert "2 of 3 judged" in page.get("/pairs").text
    stored = PersonVerdicts(ledger, read_pairs(ledger, "a-run", BOTH)).verdicts()
    assert [(one.annotator, one.verdict) for one in stored] == [("Ann", "first"), ("Ann", "tie")]
    with annotating(ledger.home, "--annotator", "Ann") as page:
        assert "2 of 3 judged" in page.get("/pairs").text


def test_the_page_of_nobody_and_of_nothing_is_refused(ledger: Ledger) -> None:
    assert_refused(run("annotate", "b-run"), 2, "No run 'b-run'", "a-run")
    assert_refused(run("annotate", "a-run", "--systems", "after,PRO"), 2, "PRO", "after, before")
    assert_refused(run("annotate", "a-run", "--systems", "after"), 2, "two with a comma")
    assert_refused(run("annotate", "a-run", "--annotator", " "), 2, "annotator's name")


def test_the_page_listens_elsewhere_with_a_token_only(ledger: Ledger) -> None:
    open_to_all = ("annotate", "a-run", "--host", "0.0.0.0")  # noqa: S104  refused
    assert_refused(run(*open_to_all), 2, "--token-env")
    assert_refused(run(*open_to_all, "--token-env", "NOT_SET"), 2, "NOT_SET is not set")


def test_exhibits_are_listed(ledger: Ledger) -> None:
    output = run("exhibit").output
    for name in ("table-3", "run-rewards", "figure-4"):
        assert name in output


@pytest.mark.parametrize("style", ["table", "markdown", "csv", "latex", "json"])
def test_an_exhibit_is_printed_in_every_format(ledger: Ledger, style: str) -> None:
    result = run("exhibit", "table-3", "--run", "a-run", "--format", style)
    assert result.exit_code == 0, result.output
    assert "CycleAlign PRO" in result.stdout
    if style == "json":
        assert {row["source"] for row in json.loads(result.stdout)} == {"paper"}


def test_an_exhibit_is_drawn_beside(ledger: Ledger, tmp_path: Path) -> None:
    result = run("exhibit", "table-3", "--run", "a-run", "--plot", str(tmp_path / "table.svg"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "table.svg").read_text().startswith("<?xml")


def test_a_wrong_exhibit_run_or_parameter_says_what_is_known(ledger: Ledger) -> None:
    assert_refused(run("exhibit", "table-9"), 2, "No exhibit 'table-9'", "table-3")
    assert_refused(run("exhibit", "table-3", "--run", "b-run"), 2, "No run 'b-run'", "a-run")
    assert_refused(run("exhibit", "run-agreement", "bins"), 2, "NAME=VALUE")
    assert_refused(run("exhibit", "run-agreement", "colour=red"), 2, "bins")


@pytest.mark.parametrize("bins", ["0", "-3", "abc", "", "²", "1.5", "9" * 5000], ids=lambda text: text[:5])
@pytest.mark.parametrize("exhibit", ["figure-4", "run-agreement"])
def test_bins_that_are_no_number_of_bins_are_refused(ledger: Ledger, exhibit: str, bins: str) -> None:
    assert_refused(run("exhibit", exhibit, f"bins={bins}"), 2, f"Found bins={bins[:40]}", "from 1 to 10000")


@pytest.mark.parametrize("parameter", ["role", "against"])
def test_a_role_that_a_run_has_not_names_those_it_has(ledger: Ledger, parameter: str) -> None:
    result = run("exhibit", "table-5", "--run", "a-run", f"{parameter}=nobody")
    assert_refused(result, 2, f"Found {parameter}=nobody", "after, before", "--system")
    assert run("exhibit", "table-5", "--run", "a-run", f"{parameter}=before").exit_code == 0
