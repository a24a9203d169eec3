"""The Prefect server: whom it lets in, what it keeps, and that it is gone when its command is."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest
from prefect.settings import PREFECT_SERVER_API_HOST, temporary_settings
from prefect.settings.models.server.api import ServerAPISettings
from starlette.responses import PlainTextResponse

from cli.server import guarded, main, require_closed
from cli.service import up
from cyclealign.errors import UsageError

ROOT = Path(__file__).parent.parent.parent
FLOWS = """
import psutil
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from tasks.cycle.progress import say

@task
def number(one):
    get_run_logger().info("task %d", one)

@flow
def busy(tasks):
    print("under way", flush=True)
    input()
    for one in range(tasks):
        number(one)
    say("once")

@flow
def bereft(tasks):
    print("under way", flush=True)
    input()
    for child in psutil.Process().children():
        child.kill()
        child.wait()
    create_markdown_artifact("never kept", key="never-kept")
"""
TASKS = 150


@dataclass(frozen=True)
class Command:
    """A command with a server of its own, in a home whose name is odd."""

    home: Path
    process: "subprocess.Popen[str]"
    address: httpx2.URL
    """What it printed."""

    def child(self) -> psutil.Process:
        """Its server."""
        (server,) = psutil.Process(self.process.pid).children()
        return server

    def rows(self, question: str) -> list[tuple[object, ...]]:
        """Of Prefect's database."""
        with closing(sqlite3.connect(self.home / "prefect" / "prefect.db")) as database:
            return database.execute(question).fetchall()


def started(home: Path, flow: str) -> "subprocess.Popen[str]":
    (home / "flows_of_test.py").write_text(FLOWS)
    program = f"from cli.server import in_process; in_process('flows_of_test:{flow}', tasks={TASKS})"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    if flow == "bereft":
        clean["PREFECT_CLIENT_MAX_RETRIES"] = "0"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**clean, "CYCLEALIGN_HOME": str(home), "PYTHONPATH": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Command]]:
    """Three at once in one home, in the middle of their flows; the third will kill its server."""
    home = tmp_path_factory.mktemp("odd %41 #é&")
    processes = [started(home, flow) for flow in ("busy", "busy", "bereft")]
    found = []
    for process in processes:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("Watch: "), said + process.stderr.read()
        assert process.stdout.readline() == "under way\n"
        found.append(Command(home, process, httpx2.URL(said.split()[1])))
    yield found
    for process in processes:
        process.kill()
        process.communicate()


def test_the_printed_address_opens_the_run_page_and_strangers_are_refused(commands: list[Command]) -> None:
    address = commands[0].address
    with httpx2.Client(base_url=address.join("/"), trust_env=False, follow_redirects=True) as stranger:
        assert stranger.get(address.path).status_code == 401
        assert stranger.post("/api/flows/count", json={}).status_code == 401
        assert stranger.get(f"{address.path}?token=guessed").status_code == 401
    with httpx2.Client(base_url=address.join("/"), trust_env=False, follow_redirects=True) as browser:
        page = browser.get(address, headers={"accept": "text/html"})
        assert "<title>Prefect" in page.text
        assert "token" not in str(page.url)
        assert browser.get("/ui-settings").json()["api_url"] == str(address.join("/api"))
        assert browser.get(f"/api/flow_runs/{address.path.rsplit('/')[-1]}").json()["state_name"] == "Running"
        elsewhere = {"origin": "https://evil.example"}
        assert browser.post("/api/flows/count", json={}, headers=elsewhere).status_code == 403
    assert (commands[0].home / "prefect" / "ui").is_dir()


def test_a_server_whose_command_was_killed_ends_too(commands: list[Command]) -> None:
    killed = commands[1]
    server = killed.child()
    assert os.getpgid(server.pid) != os.getpgid(killed.process.pid)  # Ctrl-C in the terminal does not reach it
    killed.process.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([server], timeout=60)[1] == []


def test_a_command_that_ends_leaves_no_server_and_loses_no_record(commands: list[Command]) -> None:
    ending = commands[0]
    server = ending.child()
    _, said = ending.process.communicate("\n")
    assert (ending.process.returncode, said.split("nanobind")[0]) == (0, "once\n")  # nothing of the log
    assert not server.is_running()
    assert ending.rows("select state_type, count(*) from task_run group by 1") == [("COMPLETED", TASKS)]
    assert ending.rows("select count(*) from log where message like 'task %'") == [(TASKS,)]
    assert ending.rows("select count(*) from events where event like 'prefect.task-run.%'") == [(3 * TASKS,)]


def test_a_server_that_goes_away_ends_the_command_with_one_message(commands: list[Command]) -> None:
    _, said = commands[2].process.communicate("\n")
    assert "cyclealign.errors.PrefectUnreachable: The Prefect server went away" in said
    assert "the same command again continues" in said


def test_a_server_for_all_checks_who_asks_on_loopback_and_leaves_it_to_the_password_elsewhere() -> None:
    async def status(host: str, origin: str) -> int:
        transport = httpx2.ASGITransport(guarded(PlainTextResponse("in"), host))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:4311") as client:
            return (await client.get("/", headers={"origin": origin})).status_code

    assert asyncio.run(status("127.0.0.1", "http://localhost:4311")) == 200
    assert asyncio.run(status("127.0.0.1", "https://evil.example")) == 403
    assert asyncio.run(status("192.168.0.7", "https://prefect.example")) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7"])  # noqa: S104  refused
def test_beyond_loopback_the_server_needs_prefects_password(host: str) -> None:
    with pytest.raises(UsageError, match="PREFECT_SERVER_API_AUTH_STRING"):
        require_closed(ServerAPISettings.model_validate({"host": host}))
    require_closed(ServerAPISettings.model_validate({"host": host, "auth_string": "user:password"}))
    require_closed(ServerAPISettings.model_validate({"host": "127.0.0.1"}))


@pytest.mark.parametrize("start", [up, main], ids=["make up", "the server alone"])
def test_an_open_server_is_refused_before_anything_starts(
    start: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    with temporary_settings({PREFECT_SERVER_API_HOST: "0.0.0.0"}), pytest.raises(UsageError, match="for anybody"):  # noqa: S104
        start()
    assert not list(tmp_path.rglob("*.json"))


def test_the_settings_name_loopback_alone() -> None:
    api = tomllib.loads((ROOT / "prefect.toml").read_text())["server"]["api"]
    assert api["host"] == "127.0.0.1"
    own = {f"http://{name}:{api['port']}" for name in ("127.0.0.1", "localhost")}
    assert set(api["cors_allowed_origins"].split(",")) == own
