"""The offline judge served over HTTP on loopback, with a switch that makes it refuse keys."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tasks.context import load_settings
from tasks.models import standalone_judge
from tests.serving import serving


class JudgeServer:
    """A context manager; `url` is the base URL."""

    def __init__(self, home: Path, overrides: dict[str, Any]) -> None:
        self._app = standalone_judge(load_settings("laptop", overrides), home)
        self._left: int | None = None
        self._serving: AbstractContextManager[Self]
        self.answered = 0
        self.url = ""

    def refuse_after(self, answers: int) -> None:
        """Refuse the key from the answer after `answers` on."""
        self._left = answers

    def accept(self) -> None:
        """Answer every request again."""
        self._left = None

    def app(self) -> Self:
        """Itself."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.handle(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._left is not None and self._left <= 0:
            error = {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
            await JSONResponse(error, status_code=401)(scope, receive, send)
            return
        if self._left is not None:
            self._left -= 1
        self.answered += 1
        await self._app(scope, receive, send)

    def __enter__(self) -> Self:
        self._serving = serving(self)
        return self._serving.__enter__()

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)
