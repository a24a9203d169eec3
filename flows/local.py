"""Running a flow in this process: on the server when one is up, otherwise on Prefect's ephemeral one.

`cyclealign train` works without a server; with `make up` done before, the same command shows in the UI.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from cyclealign.errors import StorageFull

TERMINAL = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


def prepare_environment(*, quiet: bool = True) -> None:
    """Settings that Prefect reads when it is first imported; what the user has set stays.

    Args:
        quiet: Leave the terminal to our own lines; a worker's flow runs log, so that the run page has lines to show.
    """
    from tasks.context import home_folder  # noqa: PLC0415  the command line must answer --help at once

    os.environ.setdefault("PREFECT_HOME", str(_prefect_folder(home_folder())))
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault(
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120"
    )  # the first start makes a database
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _prefect_folder(home: Path) -> Path:
    folder = home / "prefect"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError as error:
        problem = error.strerror
    raise StorageFull(
        f"{folder} cannot be made: {problem}. Expected a folder of yours; set CYCLEALIGN_HOME to one."
    )


def in_process(flow: Any, **parameters: Any) -> Any:
    """The result of a flow run in this process; errors of the flow are raised as they are."""
    with _server_or_ephemeral() as ephemeral:
        state = flow(**parameters, return_state=True)
        if ephemeral:
            drain(str(state.state_details.flow_run_id))
        return state.result(raise_on_failure=True)


@contextmanager
def _server_or_ephemeral() -> Iterator[bool]:
    from prefect.settings import (  # noqa: PLC0415  slow to import
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        get_current_settings,
        temporary_settings,
    )

    url = get_current_settings().api.url
    if url and _answers(url):
        yield False
        return
    # prefect.toml names the server's address; without it here, Prefect starts a server of its own for this process
    with temporary_settings(
        updates={PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}, restore_defaults={PREFECT_API_URL}
    ):
        yield True


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=2) as response:  # noqa: S310  the address is Prefect's own setting
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def drain(flow_run_id: str, timeout_s: float = 30.0, quiet_s: float = 1.0) -> None:
    """Wait until the ephemeral server has recorded every task run; at exit it would lose the last ones."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.events.worker import EventsWorker  # noqa: PLC0415

    EventsWorker.instance().wait_until_empty()
    runs = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
    ended = {**runs, "task_runs": {"state": {"type": {"any_": TERMINAL}}}}
    deadline, seen, since = time.monotonic() + timeout_s, (-1, -2), time.monotonic()
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            counts = tuple(
                client.request("POST", "/task_runs/count", json=one).json() for one in (runs, ended)
            )
            if counts != seen:
                seen, since = counts, time.monotonic()
            if counts[0] == counts[1] and time.monotonic() - since > quiet_s:
                return
            time.sleep(0.2)
