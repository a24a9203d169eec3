"""A server that fails on demand, and an empty ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.ledger import Ledger
from tests.black_box.model_server import ModelServer
from tests.serving import serving


@pytest.fixture(scope="session")
def running() -> Iterator[ModelServer]:
    """One server for all tests."""
    with serving(ModelServer()) as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    """The server as if it had just started."""
    new = vars(ModelServer(url=running.url))
    vars(running).update({name: value for name, value in new.items() if name != "_others"})
    return running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()
