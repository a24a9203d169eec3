"""What all tests share: a model server, and silence after the last of them."""

import atexit
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.black_box.model_server import ModelServer
from tests.serving import serving

settings.register_profile("without deadlines", deadline=None)  # no test asserts a time
settings.load_profile("without deadlines")

# as every command of ours sets it (`cli/local.py`): on a busy machine a server takes longer than Prefect waits
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

# DuckDB's binding lists its types as leaked when the interpreter ends; the tests' own last line comes before
atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """One server for all tests."""
    with serving(ModelServer()) as server:
        yield server


@pytest.fixture
def server(model_server: ModelServer) -> ModelServer:
    """The server as if it had just started."""
    new = vars(ModelServer(url=model_server.url))
    vars(model_server).update({name: value for name, value in new.items() if name != "_others"})
    return model_server
