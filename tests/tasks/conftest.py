"""A server that fails as it is told, and an empty ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.ledger import Ledger
from tests.models.black_box.fault_server import FaultServer
from tests.serving import serving


@pytest.fixture(scope="module")
def running() -> Iterator[FaultServer]:
    """One server for the module."""
    with serving(FaultServer()) as server:
        yield server


@pytest.fixture
def server(running: FaultServer) -> FaultServer:
    """The server as if it had just started."""
    running.plan = lambda _number, _body: "good"
    running.requests.clear()
    running.behaviours.clear()
    running.most_at_once = 0
    running.released.clear()
    return running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()
