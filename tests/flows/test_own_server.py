"""The Prefect server of one command: it answers this command alone, and is gone when the command is."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from cli.own_server import answers, own_server

ROOT = Path(__file__).parent.parent.parent


def status(url: str, **headers: str) -> int:
    request = Request(  # noqa: S310  our own address
        f"{url}/flows/count", data=b"{}", headers={"content-type": "application/json", **headers}
    )
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310  our own address
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_this_process_is_served_and_nobody_else() -> None:
    with own_server() as server, server.used():
        url = get_current_settings().api.url
        assert url is not None
        with get_client(sync_client=True) as client:
            assert client.request("POST", "/flows/count", json={}).status_code == 200
        assert status(url) == 401
        assert status(url, origin="https://evil.example") == 403
        assert status(url, host="evil.example") == 403
    server.wait()
    assert not answers(url)
    assert get_current_settings().api.url != url


def test_a_server_whose_command_was_killed_ends_too(tmp_path: Path) -> None:
    code = """
        from cli.own_server import own_server
        with own_server() as server, server.used():
            print("up", flush=True)
            input()
        """
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
    command = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "up\n"
    (server,) = psutil.Process(command.pid).children()
    assert os.getpgid(server.pid) != os.getpgid(command.pid)  # Ctrl-C in the terminal does not reach it
    command.send_signal(signal.SIGKILL)
    command.communicate()
    server_is_gone = psutil.wait_procs([server], timeout=30)[1] == []
    assert server_is_gone


def test_a_server_that_goes_away_ends_the_command_with_one_message(tmp_path: Path) -> None:
    program = """
        import psutil
        from cli.local import in_process, prepare_environment

        prepare_environment()  # before Prefect is imported
        from prefect import flow
        from prefect.artifacts import create_markdown_artifact

        @flow
        def bereft():
            for child in psutil.Process().children():
                child.kill()
                child.wait()
            create_markdown_artifact("never kept", key="never-kept")

        in_process("__main__:bereft")
    """
    environment = {**os.environ, "CYCLEALIGN_HOME": str(tmp_path), "PREFECT_CLIENT_MAX_RETRIES": "0"}
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "cyclealign.errors.PrefectUnreachable: The Prefect server went away" in done.stderr
    assert "the same command again continues" in done.stderr
