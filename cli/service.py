"""`make up` and `make down`: the Prefect server, one worker, the deployments and their automations.

Both processes run in sessions of their own; their ids and logs are files in the home's `prefect` folder. What is
already up is left alone, so `make up` twice is one server. Called as `python -m cli.service up|down`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cli.local import prepare_environment
from cyclealign.errors import CycleAlignError
from cyclealign.loopback import listen
from tasks.context import home_folder

ROOT = Path(__file__).parent.parent
PREFECT = str(Path(sys.executable).with_name("prefect"))
POOL = "local"
SERVER = (sys.executable, "-m", "cli.server")
WORKER = (PREFECT, "worker", "start", "--pool", POOL, "--type", "process")


def up() -> None:
    """Start server and worker, wait until they answer, deploy everything in `prefect.yaml`."""
    prepare_environment(quiet=False)
    _refuse_unsafe_server()
    _start("server", *SERVER)
    _wait_for_server()
    _start("worker", *WORKER)
    _wait_for_pool()
    _prefect("--no-prompt", "deploy", "--all")
    _limit_devices()
    _crash_zombies()
    print(f"Prefect UI: {_setting('PREFECT_API_URL').removesuffix('/api')}")
    print("Start a run: .venv/bin/prefect deployment run cyclealign/train --watch")


def down() -> None:
    """Stop the worker, then the server; runs in progress are left resumable."""
    for name in ("worker", "server"):
        _stop(name)


def _refuse_unsafe_server() -> None:
    """Known before anything starts: whether strangers could use the server, and whether its port is free."""
    from prefect.settings import get_current_settings

    from cli.server import require_closed

    api = get_current_settings().server.api
    require_closed(api)
    if _process("server") is None:
        listen(api.host, api.port, "Choose another with PREFECT_SERVER_API_PORT and PREFECT_API_URL.").close()


def _folder() -> Path:
    folder = home_folder() / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _process(name: str) -> psutil.Process | None:
    """The running process of this name that an earlier `up` started, told apart from a reused id by its start."""
    try:
        noted = json.loads((_folder() / f"{name}.json").read_text())
        process = psutil.Process(noted["pid"])
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
    same = abs(process.create_time() - noted["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return process if same else None


def _start(name: str, *command: str) -> None:
    if _process(name) is not None:
        return
    with (_folder() / f"{name}.log").open("ab") as log:
        # its output goes to a file: a server whose pipe nobody reads dies
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    noted = {"pid": child.pid, "started": psutil.Process(child.pid).create_time()}
    (_folder() / f"{name}.json").write_text(json.dumps(noted))


def _stop(name: str) -> None:
    process = _process(name)
    if process is None:
        return
    for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # an idle worker may need two
        process.send_signal(sign)
        try:
            process.wait(timeout=15)
            break
        except psutil.TimeoutExpired:
            continue
    (_folder() / f"{name}.json").unlink()
    print(f"{name} stopped")


def _prefect(*arguments: str) -> str:
    done = subprocess.run([PREFECT, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CycleAlignError(
            f"`prefect {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}\n"
            f"The server's log is {_folder() / 'server.log'}, the worker's {_folder() / 'worker.log'}."
        )
    return done.stdout


def _wait_for_server() -> None:
    try:
        _prefect("server", "status", "--wait", "--timeout", "90")
    except CycleAlignError as error:
        server = _process("server")
        if server is not None:
            raise
        raise CycleAlignError(f"The Prefect server did not start. {error}") from None


def _wait_for_pool(timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if f'"{POOL}"' in _prefect("work-pool", "ls", "--output", "json"):
            return
        time.sleep(0.5)
    raise CycleAlignError(f"The worker did not start within {timeout_s:.0f} s; see {_folder() / 'worker.log'}.")


def _limit_devices() -> None:
    """One run trains on a device at a time: a concurrency slot per device, held by each segment."""
    from tasks.devices import create_slots

    create_slots()


def _crash_zombies() -> None:
    """Flow runs whose process died with its worker are marked as crashed when their heartbeats stop."""
    from tasks.devices import create_heartbeat_automation

    create_heartbeat_automation()


def _setting(name: str) -> str:
    from prefect.settings import get_current_settings

    return get_current_settings().to_environment_variables()[name]


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        {"up": up, "down": down}[sys.argv[1]]()
    except CycleAlignError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
