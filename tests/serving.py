"""Runs a test's own HTTP server on loopback."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import uvicorn


class Served(Protocol):
    """A server: what answers, and where it is while it runs."""

    url: str

    def app(self) -> Any:
        """The ASGI application."""
        ...


S = TypeVar("S", bound=Served)


@contextlib.contextmanager
def serving(server: S) -> Iterator[S]:
    """Run the server on a free port of the loopback interface for the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        config = uvicorn.Config(server.app(), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join()
