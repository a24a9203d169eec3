"""The command line as a user meets it: exit codes, messages without tracebacks, formats."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.context import open_run
from tests.command_line import assert_refused, run
from tests.flows.conftest import SMALL

FOLDER_RUN = ("train", "--profile", "hh-rlhf-smollm2", "--run", "bad-data", "--set", "white_box.model=HOME/none")

OWN_WORLD = (
    *("--set", "data.source=world"),
    *("--set", "white_box.model=world"),
    *("--set", "evaluation.reward_model=world"),
)
"""What a profile of a test's own needs to work on the generated world."""


def test_an_unknown_profile_is_wrong_use_and_lists_the_known_ones(home: Path) -> None:
    assert_refused(run("train", "--profile", "labtop"), 2, "No profile 'labtop'", "laptop")


def test_an_unknown_setting_is_wrong_use(home: Path) -> None:
    assert_refused(
        run("train", "--set", "method.roundz=3"), 2, "method.roundz: unknown key; did you mean method.rounds?"
    )


def test_a_value_of_the_wrong_kind_says_what_was_expected(home: Path) -> None:
    assert_refused(run("train", "--set", "method.rounds=many"), 2, "method.rounds", "valid integer", "'many'")


def test_real_dialogues_without_the_real_model_say_how_to_get_it(home: Path) -> None:
    folder = home / "empty-files"
    for subset in ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"):
        (folder / subset).mkdir(parents=True)
        for split in ("train", "test"):
            (folder / subset / f"{split}.jsonl.gz").write_bytes(b"")
    named = ("--profile", "hh-rlhf-smollm2", "--run", "no-smollm2", "--set", f"data.path={folder}")
    assert_refused(run("train", *named), 1, "make smollm2")


def test_missing_data_files_are_named(home: Path) -> None:
    result = run(*FOLDER_RUN, "--set", "data.path=nowhere", "--set", "data.max_prompt_tokens=null")
    assert_refused(result, 1, "nowhere/harmless-base/train.jsonl.gz", "data.path")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"not gzip", "is no gzip file", id="broken gz"),
        pytest.param(gzip.compress(b'{"question": "hi"}\n' * 20), "preference pairs", id="other rows"),
        pytest.param(gzip.compress(b"{broken json\n"), "cannot be read", id="broken JSON"),
    ],
)
def test_data_that_is_not_hh_rlhf_is_refused(home: Path, tmp_path: Path, content: bytes, words: str) -> None:
    for subset in ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"):
        (tmp_path / subset).mkdir()
        for split in ("train", "test"):
            (tmp_path / subset / f"{split}.jsonl.gz").write_bytes(content)
    name = f"bad-{words.replace(' ', '-')}"
    data = ("--set", f"data.path={tmp_path}", "--set", "data.max_prompt_tokens=null")
    model = ("--set", f"white_box.model={tmp_path}")  # there, and never loaded
    assert_refused(run("train", "--profile", "hh-rlhf-smollm2", "--run", name, *data, *model), 1, words)


def test_a_model_that_is_not_there_says_what_to_do(home: Path) -> None:
    result = run("train", "--profile", "laptop", "--run", "no-model", "--set", "white_box.model=./nowhere")
    assert_refused(result, 1, "nowhere", "white_box.model")


def test_a_missing_key_pauses_the_run_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    profile = tmp_path / "paid.yaml"
    profile.write_text(json.dumps(SMALL))
    endpoint = ("--set", "black_box.endpoint=api", "--set", "black_box.model=gpt-4.1-mini")
    result = run("train", "--profile", str(profile), "--run", "no-key", *OWN_WORLD, *endpoint)
    assert_refused(result, 3, "OPENAI_API_KEY")
    assert json.loads(run("status", "no-key", "--json").output)["state"] == "paused"
    assert not (tmp_path / "home" / "world").exists()


def test_a_cap_without_a_price_refuses_to_start(whole: Path) -> None:
    profile = whole / "unpriced.yaml"
    profile.write_text(json.dumps(SMALL))
    endpoint = ("--set", "black_box.model=nobody-knows", "--set", "black_box.budget_usd=1")
    assert_refused(
        run("train", "--profile", str(profile), "--run", "unpriced", *OWN_WORLD, *endpoint), 2, "black_box.price"
    )


def test_a_loss_that_explodes_ends_the_run_as_failed_and_names_the_round(home: Path) -> None:
    profile = home / "exploding.yaml"
    profile.write_text(json.dumps(SMALL))
    limit = ("--set", "black_box.endpoint=world", "--set", "training.max_loss=1e-6")
    result = run("train", "--profile", str(profile), "--run", "exploding", *OWN_WORLD, *limit)
    assert_refused(result, 1, "step 0 round 1, step 1 round 1", "training.max_loss", "prompt_history")
    assert json.loads(run("status", "exploding", "--json").output)["state"] == "failed"


def test_an_unknown_run_is_wrong_use_and_lists_the_known_ones(whole: Path) -> None:
    for command in ("status", "report", "evaluate"):
        assert_refused(run(command, "wholly"), 2, "No run 'wholly'", "whole")


def test_status_tells_state_and_digest(whole: Path) -> None:
    found = json.loads(run("status", "whole", "--json").output)
    assert found["state"] == "complete"
    assert found["step"] == found["steps"] == 12
    assert len(found["weights_sha256"]) == 64
    brief = run("status").output
    assert "whole" in brief
    assert found["weights_sha256"][:8] in brief


@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_sql_answers_in_every_format(whole: Path, style: str) -> None:
    result = run("sql", "select run_name, steps from runs where run_name = 'whole'", "--format", style)
    assert result.exit_code == 0
    assert "whole" in result.output
    if style == "json":
        assert json.loads(result.stdout)[0] == {"run_name": "whole", "steps": 12}


@pytest.mark.parametrize("statement", ["delete from rounds", "select nonsense", "drop table runs"])
def test_sql_that_is_wrong_or_would_write_is_refused(whole: Path, statement: str) -> None:
    assert_refused(run("sql", statement), 2, "could not be answered")


def test_report_prints_its_figures_as_json(whole: Path) -> None:
    result = run("report", "whole", "--json")
    assert json.loads(result.stdout)["run"]["name"] == "whole"


def test_report_ends_with_the_paths(whole: Path) -> None:
    output = run("report", "whole").output
    for word in ("Adapter", "Ledger", "Report", "$0.00"):
        assert word in output


def test_the_evaluation_of_an_unfinished_run_says_how_to_finish_it(whole: Path) -> None:
    open_run("laptop", SMALL, "unfinished")
    assert_refused(run("evaluate", "unfinished"), 2, "no adapter yet", "give the command that began it again")


def test_a_run_that_the_disk_cannot_hold_is_refused_before_it_begins(home: Path) -> None:
    result = run("train", "--run", "too-large", "--set", "data.prompts=2000000000")
    assert_refused(result, 1, "MiB free, expected at least", "CYCLEALIGN_HOME")
    assert not (home / "too-large").exists()


def test_the_estimate_of_a_paper_profile_names_calls_and_money() -> None:
    result = run("estimate", "--profile", "paper-llama-7b-pro", "--json")
    found = json.loads(result.stdout)
    assert found["calls"]["calls_high"] == 5000
    assert float(found["calls"]["usd"]) > 0
    assert found["machines"][0]["memory_gib"] > 13


def test_doctor_passes_the_laptop_profile_and_names_what_is_missing(home: Path) -> None:
    assert run("doctor").exit_code == 0
    result = run("doctor", "--profile", "hh-rlhf-smollm2", "--set", "data.path=nowhere")
    assert result.exit_code == 1
    assert "make smollm2" in result.output
    assert "nowhere" in result.output


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    assert_refused(run("train"), 1, "CYCLEALIGN_HOME")


def test_a_foreign_file_in_the_ledgers_place_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    (tmp_path / "ledger.duckdb").write_bytes(b"my diary" * 600)
    assert_refused(run("train"), 1, "ledger.duckdb")
    assert (tmp_path / "ledger.duckdb").read_bytes() == b"my diary" * 600


def test_no_line_stands_twice_and_none_of_the_log(whole: Path) -> None:
    profile = whole / "profile.yaml"
    profile.write_text(json.dumps(SMALL))
    command = ["prepare", "--profile", str(profile), "--run", "looked-at", *OWN_WORLD]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *command],
        env={**os.environ, "CYCLEALIGN_HOME": str(whole)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "pairs kept" in line]
    assert len(lines) == 1
    assert lines[0].startswith("Dialogues: ")
    assert "duplicate_prompt" in done.stdout
