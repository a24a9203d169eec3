"""Wrong use of the command line: one message, exit code 2, no traceback, and nothing is made or started."""

import json
import socket
from pathlib import Path

import pytest

from cyclealign.errors import UsageError
from flows.train import train
from storage import runs
from storage.evaluations import System
from storage.ledger import Ledger
from tests.command_line import assert_refused, run
from tests.storage.values import new_run


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that does not exist."""
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


NAMES = {
    "empty": "",
    "parent": "..",
    "path": "../escaped",
    "absolute": "/escaped",
    "folder below": "a/b",
    "other separator": "a\\b",
    "hidden": ".hidden",
    "option": "-rf",
    "space": "my run",
    "line feed": "a\nb",
    "escape": "\x1b[31m",
    "look-alike": "run\u2024",
    "half a character": "\udcff",
    "long": "x" * 101,
    "markup": "[link=x]",
    "the home's data": "data",
    "the home's world": "world",
    "the ledger": "ledger.duckdb",
}


@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_cannot_be_a_folder_of_the_home_is_refused(empty_home: Path, command: str, name: str) -> None:
    assert_refused(run(command, f"--run={name}"), 2, "Found the run name", "--run")
    assert not empty_home.exists()


def test_a_profile_file_with_a_name_like_that_needs_a_run_name(empty_home: Path, tmp_path: Path) -> None:
    (tmp_path / "my profile.yaml").write_text("data: {source: world}\nwhite_box: {model: world}\n")
    assert_refused(run("train", "--profile", str(tmp_path / "my profile.yaml")), 2, "'my profile-seed0'", "--run")


PROFILES = {
    "a list": b"- a\n- b\n",
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "broken": b"data: [1\n",
    "an impossible date": b"seed: 2024-99-99\n",
    "deep": b"a: " + b"[" * 5000,
    "numbers for keys": b"1: 2\n",
}


@pytest.mark.parametrize("content", PROFILES.values(), ids=PROFILES)
def test_a_profile_that_is_none_is_refused(empty_home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    assert_refused(run("train", "--profile", str(tmp_path / "mine.yaml")), 2, "mine")
    assert not empty_home.exists()


def test_a_folder_is_no_profile(empty_home: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert_refused(
        run("train", "--profile", str(tmp_path / "folder.yaml")), 2, "Is a directory", "Expected a YAML file"
    )


def test_a_name_longer_than_any_file_is_no_profile(empty_home: Path) -> None:
    assert_refused(run("train", "--profile", "x" * 300), 2, "No profile 'xxx", "laptop")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("=3", "key=value"),
        ("method", "key=value"),
        ("method..rounds=3", "key=value"),
        ("method=3", "method: "),
        ("method.rounds.x=3", "method.rounds: "),
        ("seed=!!python/object/apply:os.getcwd []", "valid integer"),
        ("seed=2024-99-99", "valid integer"),
        ("seed=99999999999999999999", "seed: "),
        (f"seed={'9' * 5000}", "seed: "),
        ("data.prompts=99999999999", "data.prompts: "),
        ("data.subsets=[]", "data.subsets: "),
        ("white_box.lora.alpha=.inf", "finite"),
        ("black_box.base_url=file:///etc/passwd", "black_box.base_url: "),
        ("method.\x1b[31mrounds=3", "unknown key"),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_a_setting_that_makes_no_sense_is_refused(empty_home: Path, assignment: str, words: str) -> None:
    result = run("train", "--set", assignment)
    assert_refused(result, 2, words)
    assert "\x1b" not in result.output
    assert not empty_home.exists()


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("--5", "expected whole numbers"),
        ("²", "expected whole numbers"),
        ("1,,2", "expected whole numbers"),
        ("", "expected whole numbers"),
        ("9" * 5000, "expected whole numbers"),
        ("0,99999999999999999999", "seed: "),
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_seeds_that_are_none_are_refused(empty_home: Path, seeds: str, words: str) -> None:
    assert_refused(run("ablation", f"--seeds={seeds}"), 2, words)
    assert not empty_home.exists()


@pytest.mark.parametrize("command", ["status", "report", "evaluate"])
def test_a_run_that_nobody_started_is_unknown_and_no_ledger_is_made_for_it(empty_home: Path, command: str) -> None:
    assert_refused(run(command, "nope"), 2, "No ledger in", "CYCLEALIGN_HOME")
    assert not empty_home.exists()
    Ledger(empty_home).record(System("a system", {}))
    Ledger(empty_home).close()
    assert_refused(run(command, "nope"), 2, "No run 'nope'", "none yet")


@pytest.mark.parametrize("statement", ["", " ", ";", "/* nothing */", "select \udcff"], ids=ascii)
def test_a_question_without_a_statement_is_refused(empty_home: Path, statement: str) -> None:
    Ledger(empty_home).record(System("a system", {}))
    Ledger(empty_home).close()
    assert_refused(run("sql", statement), 2, "could not be answered", "Expected one reading statement")


def test_a_message_that_quotes_others_reaches_the_terminal_defused(empty_home: Path) -> None:
    Ledger(empty_home).record(System("a system", {}))
    Ledger(empty_home).close()
    result = run("sql", "select cast('a' || chr(27) || ']0;owned' || chr(7) as integer)")
    assert_refused(result, 2, "␛]0;owned␇")
    assert "\x1b" not in result.output


RUNNING = {
    "train": ("train",),
    "prepare": ("prepare",),
    "refold": ("refold", "a-run", "--run=another"),
    "baseline": ("baseline", "a-run", "--run=another", "--method=sft"),
    "ablation": ("ablation",),
    "evaluate": ("evaluate", "a-run"),
    "audit": ("audit", "a-run"),
}


@pytest.mark.parametrize("command", RUNNING.values(), ids=RUNNING)
def test_a_launcher_of_several_processes_is_refused_by_every_command_that_works_on_a_run(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    runs.register(Ledger(empty_home), new_run("a-run"))
    Ledger(empty_home).close()
    there = sorted(empty_home.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_refused(run(*command), 2, "Found WORLD_SIZE=2", "Expected a single process", "training.ranks=2")
    assert sorted(empty_home.iterdir()) == there
    assert [one.name for one in runs.status(Ledger(empty_home))] == ["a-run"]


def test_a_flow_that_is_called_by_a_program_refuses_its_launcher_too(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UsageError, match=r"Found WORLD_SIZE=8.*training\.ranks=8"):
        train(profile="laptop")
    assert not empty_home.exists()


def test_the_judge_listens_elsewhere_only_with_a_token(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(run("judge", "--host", "0.0.0.0"), 2, "for anybody", "--token-env")  # noqa: S104  refused
    monkeypatch.delenv("JUDGE_TOKEN", raising=False)
    open_to_all = ("judge", "--host", "0.0.0.0", "--token-env", "JUDGE_TOKEN")  # noqa: S104  refused
    assert_refused(run(*open_to_all), 2, "JUDGE_TOKEN is not set")
    monkeypatch.setenv("JUDGE_TOKEN", "")
    assert_refused(run(*open_to_all), 2, "JUDGE_TOKEN is not set")
    assert not empty_home.exists()


def test_the_judge_tells_that_its_port_is_in_use_before_anything_is_built(empty_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(run("judge", "--port", str(port)), 2, f"port {port}", "in use", "--port")
    assert not empty_home.exists()


def test_the_judge_takes_no_token_from_the_command_line() -> None:
    """Where every user of the machine could read it."""
    assert run("judge", "--token", "secret").exit_code == 2


def test_exit_codes_and_json_stay_apart(empty_home: Path) -> None:
    Ledger(empty_home).record(System("a system", {}))
    Ledger(empty_home).close()
    assert json.loads(run("status", "--json").stdout) == []
