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


@pytest.fixture
def new_home(empty_home: Path) -> Path:
    """A home with a ledger and no run."""
    Ledger(empty_home).record(System("a system", {}))
    Ledger(empty_home).close()
    return empty_home


BAD_NAMES = ["", "..", "../escaped", "/escaped", "a\\b", ".hidden", "-rf", "my run", "\x1b[31m", "run\u2024", "\udcff"]
TAKEN_NAMES = ["x" * 101, "data", "ledger.duckdb"]
SEEDS = ["--5", "²", "1,,2", "", "9" * 5000]
SETTINGS = {
    "method": "key=value",
    "method=3": "method: ",
    "seed=!!python/object/apply:os.getcwd []": "valid integer",
    f"seed={'9' * 5000}": "seed: ",
    "white_box.lora.alpha=.inf": "finite",
    "black_box.base_url=file:///etc/passwd": "black_box.base_url: ",
    "method.\x1b[31mrounds=3": "unknown key",
}
REFUSED = [
    *[(["train", f"--run={name}"], "Found the run name") for name in BAD_NAMES + TAKEN_NAMES],
    (["prepare", "--run=.."], "Found the run name"),
    (["train", "--profile", "x" * 300], "No profile 'xxx"),
    *[(["train", "--set", assignment], words) for assignment, words in SETTINGS.items()],
    *[(["ablation", f"--seeds={seeds}"], "expected whole numbers") for seeds in SEEDS],
    (["ablation", "--seeds=0,99999999999999999999"], "seed: "),
    (["ablation", "--objectives=pro,dpo"], "expected pro, rrhf or both"),
    *[([command, "nope"], "No ledger in") for command in ("status", "report", "evaluate")],
]


@pytest.mark.parametrize(("command", "words"), REFUSED, ids=lambda one: ascii(one)[:40])
def test_a_command_that_makes_no_sense_is_refused_and_leaves_nothing(
    empty_home: Path, command: list[str], words: str
) -> None:
    result = run(*command)
    assert_refused(result, 2, words)
    assert "\x1b" not in result.output
    assert not empty_home.exists()


@pytest.mark.parametrize(
    "content", [b"- a\n", b"", b"\xff\xfe\x00", b"data: [1\n", b"seed: 2024-99-99\n", b"a: " + b"[" * 5000, b"1: 2\n"]
)
def test_a_profile_that_is_none_is_refused(empty_home: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    assert_refused(run("train", "--profile", str(tmp_path / "mine.yaml")), 2, "mine")
    assert not empty_home.exists()


def test_a_profile_file_needs_a_name_that_a_run_can_have(empty_home: Path, tmp_path: Path) -> None:
    (tmp_path / "my profile.yaml").write_text("data: {source: world}\nwhite_box: {model: world}\n")
    assert_refused(run("train", "--profile", str(tmp_path / "my profile.yaml")), 2, "'my profile-seed0'", "--run")
    (tmp_path / "folder.yaml").mkdir()
    assert_refused(run("train", "--profile", str(tmp_path / "folder.yaml")), 2, "Is a directory", "Expected a YAML")


def test_a_home_without_runs_says_so(new_home: Path) -> None:
    for command in ("status", "report", "evaluate"):
        assert_refused(run(command, "nope"), 2, "No run 'nope'", "none yet")
    assert json.loads(run("status", "--json").stdout) == []


@pytest.mark.parametrize("statement", ["", " ", ";", "/* nothing */", "select \udcff"], ids=ascii)
def test_a_question_without_a_statement_is_refused(new_home: Path, statement: str) -> None:
    assert_refused(run("sql", statement), 2, "could not be answered", "Expected one reading statement")


def test_a_message_that_quotes_others_reaches_the_terminal_defused(new_home: Path) -> None:
    result = run("sql", "select cast('a' || chr(27) || ']0;owned' || chr(7) as integer)")
    assert_refused(result, 2, "␛]0;owned␇")
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    "command",
    [
        ["train"],
        ["prepare"],
        ["refold", "a-run", "--run=another"],
        ["baseline", "a-run", "--run=another", "--method=sft"],
        ["ablation"],
        ["evaluate", "a-run"],
        ["audit", "a-run"],
    ],
    ids=lambda command: command[0],
)
def test_a_launcher_of_several_processes_is_refused_by_every_command_that_works_on_a_run(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    runs.register(Ledger(empty_home), new_run("a-run"))
    Ledger(empty_home).close()
    there = sorted(empty_home.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_refused(run(*command), 2, "Found WORLD_SIZE=2", "Expected a single process", "training.ranks=2")
    assert sorted(empty_home.iterdir()) == there
    with pytest.raises(UsageError, match=r"Found WORLD_SIZE=2.*training\.ranks=2"):
        train.fn(profile="laptop")  # called by a program


def test_the_judge_listens_elsewhere_only_with_a_token_that_no_other_user_can_read(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_refused(run("judge", "--host", "0.0.0.0"), 2, "for anybody", "--token-env")  # noqa: S104  refused
    monkeypatch.setenv("JUDGE_TOKEN", "")
    open_to_all = ("judge", "--host", "0.0.0.0", "--token-env")  # noqa: S104  refused
    assert_refused(run(*open_to_all, "JUDGE_TOKEN"), 2, "JUDGE_TOKEN is not set")
    assert_refused(run(*open_to_all, "NOT_SET"), 2, "NOT_SET is not set")
    assert run("judge", "--token", "secret").exit_code == 2
    assert not empty_home.exists()


def test_the_judge_tells_that_its_port_is_in_use_before_anything_is_built(empty_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(run("judge", "--port", str(port)), 2, f"port {port}", "in use", "--port")
    assert not empty_home.exists()
