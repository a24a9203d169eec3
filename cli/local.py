"""Running a flow in this process: on the server when one is up, otherwise on one of its own.

`cyclealign train` works without a server; with `make up` done before, the same command shows in the UI.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cyclealign.disk import require_writable
from cyclealign.errors import PrefectUnreachable

if TYPE_CHECKING:
    from cli.own_server import OwnServer

TERMINAL = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


def prepare_environment(*, quiet: bool = True) -> None:
    """Settings that Prefect reads when it is first imported; what the user has set stays.

    Args:
        quiet: Leave the terminal to our own lines; a worker's flow runs log, so that the run page has lines to show.

    Raises:
        UsageError: a launcher started several of this process.
        StorageFull: the home cannot be written.
    """
    from tasks.context import home_folder, refuse_launcher
    from tasks.cycle.progress import LOGGER

    refuse_launcher()
    folder = home_folder() / "prefect"
    require_writable(folder)
    os.environ.setdefault("PREFECT_HOME", str(folder))
    if quiet:
        # what goes wrong in a flow comes out of it as an error, which the command line tells
        for source in ("LOGGING", "SERVER_LOGGING", "INTERNAL_LOGGING"):
            os.environ.setdefault(f"PREFECT_{source}_LEVEL", "CRITICAL")
        LOGGER.setLevel(logging.WARNING)
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # the first start makes a database
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def in_process(entry: str, **parameters: Any) -> Any:
    """The result of a flow run in this process; errors of the flow are raised as they are.

    Args:
        entry: `module:flow`. The module is imported here, because that takes as long as a server needs to start.
        parameters: The flow's.

    Raises:
        UsageError, StorageFull: see `prepare_environment`.
        PrefectUnreachable: the Prefect server went away meanwhile.
    """
    prepare_environment()
    module, name = entry.split(":")
    with _own_server_unless_up() as own:
        flow = getattr(import_module(module), name)
        with own.used() if own else nullcontext(), _server_needed():
            state = flow(**parameters, return_state=True)
            if own:
                drain(str(state.state_details.flow_run_id))
            return state.result(raise_on_failure=True)


@contextmanager
def _server_needed() -> Iterator[None]:
    """Tells a Prefect server that has gone from other failures of a connection, which pass unchanged."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    from cli.own_server import answers

    try:
        yield
        return
    except httpx.TransportError as error:
        if answers(str(PREFECT_API_URL.value())):
            raise
        problem = str(error) or type(error).__name__
    raise PrefectUnreachable(
        f"The Prefect server went away while the flow ran: {problem}. Expected it to be there to the end. What was "
        "computed is in the ledger: the same command again continues."
    )


@contextmanager
def _own_server_unless_up() -> Iterator["OwnServer | None"]:
    from prefect.settings import get_current_settings

    from cli.own_server import answers, own_server

    url = get_current_settings().api.url
    if url and answers(url):
        yield None
        return
    with own_server() as own:
        yield own


def drain(flow_run_id: str, timeout_s: float = 30.0, quiet_s: float = 1.0) -> None:
    """Wait until the server has recorded every task run; at exit it would lose the last ones."""
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker

    EventsWorker.instance().wait_until_empty()
    runs = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
    ended = {**runs, "task_runs": {"state": {"type": {"any_": TERMINAL}}}}
    deadline, seen, since = time.monotonic() + timeout_s, (-1, -2), time.monotonic()
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            counts = tuple(client.request("POST", "/task_runs/count", json=one).json() for one in (runs, ended))
            if counts != seen:
                seen, since = counts, time.monotonic()
            if counts[0] == counts[1] and time.monotonic() - since > quiet_s:
                return
            time.sleep(0.1)
