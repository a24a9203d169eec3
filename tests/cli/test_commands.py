"""The command line as a user meets it: exit codes, messages without tracebacks, formats."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Pending

from cli.service import AUTOMATION, crash_zombies, give_back_pending
from tasks.context import open_run
from tests.command_line import assert_refused, run
from tests.flows.conftest import SMALL
from tests.tiny_llama import save_tiny_llama

OWN_WORLD = {"data.source": "world", "white_box.model": "world", "evaluation.reward_model": "world"}
"""What a profile of a test's own needs to work on the generated world."""


def options(**settings: object) -> list[str]:
    """Options that set `section__key`, and what every test profile needs."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return [word for name, value in given.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def profile(tmp_path: Path) -> list[str]:
    """Options of a small profile of the test's own."""
    (tmp_path / "mine.yaml").write_text(json.dumps(SMALL))
    world = [word for name, value in OWN_WORLD.items() for word in ("--set", f"{name}={value}")]
    return ["--profile", str(tmp_path / "mine.yaml"), *world]


def hh_rlhf(folder: Path, content: bytes) -> list[str]:
    """Options of the profile of real dialogues, with files of this content."""
    for subset in ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"):
        (folder / subset).mkdir(parents=True)
        for split in ("train", "test"):
            (folder / subset / f"{split}.jsonl.gz").write_bytes(content)
    return ["--profile", "hh-rlhf-smollm2", *options(data__path=folder)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--profile", "labtop"], 2, ["No profile 'labtop'", "laptop"]),
        (options(method__roundz=3), 2, ["method.roundz: unknown key; did you mean method.rounds?"]),
        (options(method__rounds="many"), 2, ["method.rounds", "valid integer", "'many'"]),
        (options(white_box__model="./nowhere"), 1, ["nowhere", "white_box.model"]),
        (options(data__prompts=2_000_000_000), 1, ["MiB free, expected at least", "CYCLEALIGN_HOME"]),
        (
            ["--profile", "hh-rlhf-smollm2", *options(data__path="nowhere", data__max_prompt_tokens="null")],
            1,
            ["nowhere/harmless-base/train.jsonl.gz", "data.path"],
        ),
    ],
    ids=["profile", "key", "value", "model", "room", "data"],
)
def test_what_is_wrong_or_missing_is_named(home: Path, words: list[str], code: int, said: list[str]) -> None:
    assert_refused(run("train", "--run", f"refused-{said[0][:5].strip(': ./')}".replace(" ", "-"), *words), code, *said)


def test_real_dialogues_without_the_real_model_say_how_to_get_it(home: Path, tmp_path: Path) -> None:
    assert_refused(run("train", "--run", "no-smollm2", *hh_rlhf(tmp_path / "empty", b"")), 1, "make smollm2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"not gzip", "is no gzip file", id="broken gz"),
        pytest.param(gzip.compress(b'{"question": "hi"}\n' * 20), "preference pairs", id="other rows"),
        pytest.param(gzip.compress(b"{broken json\n" * 20), "preference pairs", id="broken JSON"),
    ],
)
def test_data_that_is_not_hh_rlhf_is_refused(home: Path, tmp_path: Path, content: bytes, words: str) -> None:
    model = save_tiny_llama(tmp_path / "model")  # which is never loaded
    there = options(data__max_prompt_tokens="null", white_box__model=model)
    name = f"bad-{len(content)}"
    assert_refused(run("train", "--run", name, *hh_rlhf(tmp_path / "bad", content), *there), 1, words)


def test_a_missing_key_pauses_the_run_before_anything_is_built(
    profile: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    endpoint = options(black_box__endpoint="api", black_box__model="gpt-4.1-mini")
    assert_refused(run("train", "--run", "no-key", *profile, *endpoint), 3, "OPENAI_API_KEY")
    assert json.loads(run("status", "no-key", "--json").output)["state"] == "paused"
    assert not (tmp_path / "home" / "world").exists()


def test_a_cap_without_a_price_refuses_to_start(home: Path, profile: list[str]) -> None:
    endpoint = options(black_box__model="nobody-knows", black_box__budget_usd=1)
    assert_refused(run("train", "--run", "unpriced", *profile, *endpoint), 2, "black_box.price")


def test_a_loss_that_explodes_ends_the_run_as_failed_and_names_the_round(home: Path, profile: list[str]) -> None:
    limit = options(black_box__endpoint="world", training__max_loss="1e-6")
    result = run("train", "--run", "exploding", *profile, *limit)
    assert_refused(result, 1, "step 0 round 1, step 1 round 1", "training.max_loss", "prompt_history")
    assert json.loads(run("status", "exploding", "--json").output)["state"] == "failed"


def test_preparing_prints_what_was_dropped_and_why(home: Path, profile: list[str]) -> None:
    assert "duplicate_prompt" in run("prepare", "--run", "looked-at", *profile).stdout


def test_a_finished_run_is_shown_by_every_command(whole: Path) -> None:
    found = json.loads(run("status", "whole", "--json").output)
    assert found["state"] == "complete"
    assert found["step"] == found["steps"] == 12
    assert len(found["weights_sha256"]) == 64
    brief = run("status").output
    assert "whole" in brief
    assert found["weights_sha256"][:8] in brief
    assert json.loads(run("report", "whole", "--json").stdout)["run"]["name"] == "whole"
    end = run("report", "whole").output
    for word in ("Adapter", "Ledger", "Report", "$0.00"):
        assert word in end


def test_unknown_and_unfinished_runs_say_what_is_there_and_what_to_do(whole: Path) -> None:
    for command in ("status", "report", "evaluate"):
        assert_refused(run(command, "wholly"), 2, "No run 'wholly'", "whole")
    open_run("laptop", SMALL, "unfinished")
    assert_refused(run("evaluate", "unfinished"), 2, "no adapter yet", "give the command that began it again")


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


def test_the_estimate_of_a_paper_profile_names_calls_and_money() -> None:
    found = json.loads(run("estimate", "--profile", "paper-llama-7b-pro", "--json").stdout)
    assert found["calls"]["calls_high"] == 5000
    assert float(found["calls"]["usd"]) > 0
    assert found["machines"][0]["memory_gib"] > 13


def test_doctor_passes_the_laptop_profile_and_names_what_is_missing(home: Path) -> None:
    assert run("doctor").exit_code == 0
    result = run("doctor", "--profile", "hh-rlhf-smollm2", *options(data__path="nowhere"))
    assert result.exit_code == 1
    assert "make smollm2" in result.output
    assert "nowhere" in result.output


def test_a_home_that_cannot_be_used_says_so_and_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ledger.duckdb").write_bytes(b"my diary" * 600)
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "ledger.duckdb" / "home"))
    assert_refused(run("train"), 1, "CYCLEALIGN_HOME")
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    assert_refused(run("train"), 1, "ledger.duckdb")
    assert (tmp_path / "ledger.duckdb").read_bytes() == b"my diary" * 600
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "what?"))
    assert_refused(run("train"), 2, "question mark", "CYCLEALIGN_HOME")


@pytest.mark.usefixtures("prefect")
def test_a_run_that_a_dead_worker_had_taken_goes_back_to_the_queue_and_frees_its_slot() -> None:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="abandoned", type="process"))
        flow = client.create_flow_from_name("abandoned")
        deployment = client.create_deployment(flow, "abandoned", work_pool_name="abandoned", concurrency_limit=1)
        first, second = (client.create_flow_run_from_deployment(deployment) for _ in range(2))
        assert client.set_flow_run_state(first.id, Pending()).status.value == "ACCEPT"
        assert client.set_flow_run_state(second.id, Pending()).status.value != "ACCEPT"
        give_back_pending("abandoned")
        assert client.read_flow_run(first.id).state.type.value == "SCHEDULED"  # type: ignore[union-attr]
        assert client.set_flow_run_state(second.id, Pending()).status.value == "ACCEPT"
        give_back_pending("abandoned")


def automations() -> list[Automation]:
    with get_client(sync_client=True) as client:
        return list(client.read_automations_by_name(AUTOMATION))


@pytest.mark.parametrize(
    ("to", "encoding", "code", "said"),
    [("/dev/full", "utf-8", 1, "printing ended (No space left on device)"), ("/dev/null", "ascii", 0, "")],
)
def test_what_the_output_cannot_take_ends_the_printing_alone(
    to: str, encoding: str, code: int, said: str, whole: Path
) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "cli.main", "report", "whole"]
    with Path(to).open("w") as output:
        ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
    assert said in ended.stderr


def test_openmps_threads_wait_briefly_for_each_other_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for given, expected in ((None, "3000"), ("7", "7")):
        monkeypatch.delenv("GOMP_SPINCOUNT") if given is None else monkeypatch.setenv("GOMP_SPINCOUNT", given)
        assert run("exhibit", "--help").exit_code == 0
        assert os.environ["GOMP_SPINCOUNT"] == expected


@pytest.mark.usefixtures("prefect")
def test_a_flow_run_is_given_three_heartbeats_whatever_their_frequency() -> None:
    crash_zombies()
    assert automations() == []  # the tests' flow runs have no heartbeats
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 180}):
        crash_zombies()
        crash_zombies()  # the second time it is there
    (one,) = automations()
    assert one.trigger.within.total_seconds() == 3 * 180  # type: ignore[union-attr]
    with get_client(sync_client=True) as client:
        client.request("DELETE", "/automations/{id}", path_params={"id": str(one.id)})
