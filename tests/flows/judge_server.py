"""The offline judge served over HTTP on loopback, with a switch that makes it refuse keys."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tasks.context import load_settings
from tasks.models import standalone_judge


class JudgeServer:
    """A context manager; `url` is the base URL."""

    def __init__(self, home: Path, overrides: dict[str, Any]) -> None:
        self._app = standalone_judge(load_settings("laptop", overrides), home)
        self._left: int | None = None
        self.answered = 0
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/v1"
        config = uvicorn.Config(
            self.handle,
            port=self._port,
            log_config=None,  # setting loggers up waits five seconds for Prefect's handler, which waits for the lock
            lifespan="off",
            interface="asgi3",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def refuse_after(self, answers: int) -> None:
        """Refuse the key from the answer after `answers` on."""
        self._left = answers

    def accept(self) -> None:
        """Answer everybody again."""
        self._left = None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._left is not None and self._left <= 0:
            error = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
            await JSONResponse(error, status_code=401)(scope, receive, send)
            return
        if self._left is not None:
            self._left -= 1
        self.answered += 1
        await self._app(scope, receive, send)

    def __enter__(self) -> "JudgeServer":
        self._thread.start()
        while not self._server.started:
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
