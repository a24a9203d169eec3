"""The Prefect server of `make up` keeps strangers out, and is not started where it could not."""

import asyncio
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
import pytest
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from prefect.settings.models.server.api import ServerAPISettings
from starlette.types import ASGIApp

from cli.server import guarded, require_closed
from cyclealign.errors import UsageError

ROOT = Path(__file__).parent.parent.parent


def settings(host: str, auth_string: str | None = None) -> ServerAPISettings:
    return ServerAPISettings.model_validate({"host": host, "auth_string": auth_string})


def ask(app: ASGIApp, base: str, **headers: str) -> int:
    async def once() -> int:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=base) as client:
            return (await client.get("/api/health", headers=headers)).status_code

    return asyncio.run(once())


@pytest.fixture(scope="module")
def server() -> ASGIApp:
    return guarded(create_app(settings=get_current_settings()), settings("127.0.0.1"))


def test_clients_and_pages_of_this_machine_are_answered(server: ASGIApp) -> None:
    assert ask(server, "http://127.0.0.1:4311") == 200
    assert ask(server, "http://localhost:4311", origin="http://127.0.0.1:4311") == 200


def test_pages_from_elsewhere_and_names_made_to_point_here_are_refused(server: ASGIApp) -> None:
    assert ask(server, "http://127.0.0.1:4311", origin="https://evil.example") == 403
    assert ask(server, "http://evil.example:4311") == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7"])  # noqa: S104  refused
def test_beyond_loopback_the_server_needs_prefects_password(host: str) -> None:
    with pytest.raises(UsageError, match="PREFECT_SERVER_API_AUTH_STRING"):
        require_closed(settings(host))
    require_closed(settings(host, "user:password"))
    require_closed(settings("127.0.0.1"))


@pytest.mark.parametrize("module", [("cli.service", "up"), ("cli.server",)], ids=["make up", "the server alone"])
def test_an_open_server_is_refused_before_anything_starts(tmp_path: Path, module: tuple[str, ...]) -> None:
    environment = {**os.environ, "CYCLEALIGN_HOME": str(tmp_path), "PREFECT_SERVER_API_HOST": "0.0.0.0"}  # noqa: S104
    environment.pop("PREFECT_SERVER_API_AUTH_STRING", None)
    done = subprocess.run(
        [sys.executable, "-m", *module], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "would listen on 0.0.0.0 for anybody" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_the_settings_name_loopback_alone() -> None:
    api = tomllib.loads((ROOT / "prefect.toml").read_text())["server"]["api"]
    assert api["host"] == "127.0.0.1"
    own = {f"http://{name}:{api['port']}" for name in ("127.0.0.1", "localhost")}
    assert set(api["cors_allowed_origins"].split(",")) == own
