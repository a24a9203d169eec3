"""`make up` and `make down`: the Prefect server, one worker, the deployments and their automation.

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

from cli.server import prepare_environment, require_closed, wait_for
from cyclealign.errors import CycleAlignError
from cyclealign.loopback import listen
from tasks.context import home_folder

ROOT = Path(__file__).parent.parent
PREFECT = str(Path(sys.executable).with_name("prefect"))
POOL = "local"
COMMANDS = {
    "server": (sys.executable, "-m", "cli.server"),
    "worker": (PREFECT, "worker", "start", "--pool", POOL, "--type", "process"),
}
DEPLOY = (PREFECT, "--no-prompt", "deploy", "--all")
AUTOMATION = "cyclealign-crash-zombies"
MISSED_HEARTBEATS = 3
"""One may be late on a busy machine."""


def up() -> None:
    """Start server and worker, wait until they answer, deploy everything in `prefect.yaml`."""
    prepare_environment()
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    api, url = settings.server.api, str(settings.api.url)
    require_closed(api)
    if _process("server") is None:
        listen(api.host, api.port, "Choose another with PREFECT_SERVER_API_PORT and PREFECT_API_URL.").close()
    _start("server")
    if not wait_for(lambda: _process("server") is not None, url):
        raise CycleAlignError(f"The Prefect server did not start; see {_folder() / 'server.log'}.")
    if _process("worker") is None:
        give_back_pending()
    _start("worker")
    _wait_for_pool()
    deploy = subprocess.run(DEPLOY, cwd=ROOT, capture_output=True, text=True, check=False)
    if deploy.returncode:
        logs = f"The server's log is {_folder() / 'server.log'}, the worker's {_folder() / 'worker.log'}."
        raise CycleAlignError(f"`prefect deploy --all` failed:\n{deploy.stdout}{deploy.stderr}\n{logs}")
    crash_zombies()
    print(f"Prefect UI: {url.removesuffix('/api')}")
    print("Start a run: .venv/bin/prefect deployment run cyclealign/train --watch")


def down() -> None:
    """Stop the worker, then the server; runs in progress are left resumable."""
    for name in ("worker", "server"):
        process = _process(name)
        if process is None:
            continue
        for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # an idle worker may need two
            process.send_signal(sign)
            try:
                process.wait(timeout=15)
                break
            except psutil.TimeoutExpired:
                continue
        (_folder() / f"{name}.json").unlink()
        print(f"{name} stopped")


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


def _start(name: str) -> None:
    if _process(name) is not None:
        return
    with (_folder() / f"{name}.log").open("ab") as log:  # a server whose pipe nobody reads dies
        child = psutil.Popen(
            COMMANDS[name], cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    (_folder() / f"{name}.json").write_text(json.dumps({"pid": child.pid, "started": child.create_time()}))


def _wait_for_pool(timeout_s: float = 60.0) -> None:
    """The worker makes the pool that the deployments name."""
    from prefect.client.orchestration import get_client

    deadline = time.monotonic() + timeout_s
    with get_client(sync_client=True) as client:
        while not any(pool.name == POOL for pool in client.read_work_pools()):
            if time.monotonic() > deadline:
                log = _folder() / "worker.log"
                raise CycleAlignError(f"The worker did not start within {timeout_s:.0f} s; see {log}.")
            time.sleep(0.5)


def give_back_pending(pool: str = POOL) -> None:
    """Put the flow runs that a dead worker had taken and not started back into its queue, and free their slots."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.states import Scheduled

    pending = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.PENDING]))
    of_pool = filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[pool]))
    with get_client(sync_client=True) as client:
        for taken in client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(state=pending), work_pool_filter=of_pool
        ):
            client.set_flow_run_state(taken.id, Scheduled(message="Its worker ended before it began."))


def crash_zombies() -> None:
    """Have flow runs whose process died with its worker marked as crashed when they have missed three heartbeats.

    Prefect's recommended automation; where heartbeats are turned off there is nothing to miss, and no automation.
    """
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    frequency = get_current_settings().flows.heartbeat_frequency
    with get_client(sync_client=True) as client:
        if frequency is None or client.read_automations_by_name(AUTOMATION):
            return
    runs, seconds = "prefect.flow-run.*", MISSED_HEARTBEATS * frequency
    trigger = {
        "type": "event",
        "after": ["prefect.flow-run.heartbeat"],
        "expect": [runs],
        "match": {"prefect.resource.id": [runs]},
        "for_each": ["prefect.resource.id"],
        "posture": "Proactive",
        "threshold": 1,
        "within": seconds,
    }
    action = {"type": "change-flow-run-state", "state": "CRASHED", "message": f"No heartbeat for {seconds} seconds."}
    Automation.model_validate({"name": AUTOMATION, "trigger": trigger, "actions": [action]}).create()


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        {"up": up, "down": down}[sys.argv[1]]()
    except CycleAlignError as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
