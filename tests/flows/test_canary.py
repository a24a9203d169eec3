"""The API key is found nowhere: not in what is written, not in what is said, not in what is raised.

Looked through after each way in which a run may end: the home (ledger, write-ahead log, snapshot, reports,
checkpoints), the Prefect server's database and the results that it keeps, the output and the exceptions. The endpoint
does its worst meanwhile: its errors repeat the key that they were sent.
"""

import base64
import gzip
import json
import logging
import pickle
import sqlite3
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from cyclealign.errors import EndpointRefused
from cyclealign.profiles import merge
from flows.train import train
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.flows.children import TINY, Place, kept_results, train_there
from tests.flows.judge_server import JudgeServer
from tests.flows.written import everything_below, found_in
from tests.forks import start

KEY = "sk-canary-7Qe2mXw9Zr4Tt1Yb6Kc8"


class Talkative(JudgeServer):
    """Repeats the key that it was sent wherever it can, fails the first call, and behaves by its `mode`."""

    def __init__(self, home: Path, overrides: dict[str, Any]) -> None:
        super().__init__(home, overrides)
        self.mode = "answers"
        self.heard: list[str] = []

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One chat completion."""
        sent = dict(scope["headers"])[b"authorization"].decode()
        self.heard.append(sent)

        async def repeat(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-sent", sent.encode())]
            await send(message)

        if self.mode == "cuts":
            receive.__self__.transport.abort()  # type: ignore[attr-defined]  uvicorn's request cycle
        elif self.mode == "hangs":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif self.mode == "refuses" or len(self.heard) == 1:
            body = {"error": {"message": f"no: {sent}", "code": sent}}
            await JSONResponse(body, 401 if self.mode == "refuses" else 500)(scope, receive, repeat)
        else:
            await super().handle(scope, receive, repeat)


ENDINGS: dict[str, tuple[str, dict[str, Any], type[Exception] | None]] = {
    "success": ("answers", {}, None),
    "refused": ("refuses", {}, EndpointRefused),
    "transport": ("cuts", {}, EndpointRefused),
    "crash": ("answers", {"training": {"learning_rate": 1e30}}, Exception),
    "kill": ("hangs", {}, None),
}
"""Of a run: the judge's mode, settings, and what the flow raises; each has questions of its own by its seed."""


@pytest.fixture
def judge(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talkative]:
    """The judge, with the key in the environment and Prefect told to keep every result."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Talkative(home, TINY) as judge, temporary_settings(kept_results(tmp_path / "results")):
        yield judge


def end(home: Path, judge: Talkative, ending: str, folder: Path) -> BaseException | None:
    """Have a run end so; returns what was raised on the way."""
    judge.mode, changes, expected = ENDINGS[ending]
    endpoint = {"endpoint": "api", "base_url": judge.url, "price": {"input": 1.0, "output": 2.0}, "attempts": 2}
    settings = merge(merge(TINY, {"black_box": endpoint, "seed": [*ENDINGS].index(ending)}), changes)
    run = f"canary-{ending}"
    if ending == "kill":  # while its calls are under way
        place = Place.here(home, key=KEY, output=folder / "output", results=folder / "results")
        child = start(train_there, place, run, settings)
        while not judge.heard and child.is_alive():
            time.sleep(0.02)
        child.kill()
        child.join()
        open_calls = f"select count(*) from api_attempts where run_name = '{run}' and state = 'in_flight'"
        assert answer(home, open_calls).iloc[0, 0] > 0, place.output.read_text()
    elif expected is None:
        assert train(profile="laptop", overrides=settings, run=run)["state"] == "complete"
    else:
        with pytest.raises(expected) as caught:
            train(profile="laptop", overrides=settings, run=run)
        assert runs.status(Ledger(home), run)[0].state in ("paused", "failed")
        return caught.value
    return None


def prefect_folder() -> Path:
    """Where the test server's database is."""
    return Path(urlsplit(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())).path[1:]).parent


def said_by(error: BaseException | None) -> Iterator[tuple[str, bytes]]:
    """An exception as logs show it, with the locals of every frame, and as a serializer writes it."""
    if error is None:
        return
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "traceback", "".join(shown.format()).encode()
    yield "exception", repr(vars(error)).encode() + pickle.dumps(error)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_key_is_found_nowhere_after(  # noqa: PLR0917  fixtures
    home: Path,
    judge: Talkative,
    ending: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.INFO, "httpcore2"):  # its trace shows all headers
        error = end(home, judge, ending, tmp_path)
    assert f"Bearer {KEY}" in judge.heard
    said = [("log", caplog.text.encode()), ("output", "".join(capfd.readouterr()).encode()), *said_by(error)]
    Ledger(home).close()
    written = [*everything_below([home, tmp_path, prefect_folder()])]
    assert found_in(KEY, [*said, *written]) == []
    places = {place for place, _ in written}
    assert any(place.endswith("ledger.duckdb: attempts") for place in places)
    assert any(place.endswith("prefect-test.db: flow_run_state") for place in places)
    if ending != "kill":  # a process that is killed in its first segment has stored no result yet
        assert any(place.startswith(str(tmp_path / "results")) for place in places)


def test_a_key_that_was_written_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "result").write_text(json.dumps({"result": base64.b64encode(pickle.dumps({"key": KEY})).decode()}))
    (tmp_path / "log.gz").write_bytes(gzip.compress(f"Authorization: Bearer {KEY}".encode()))
    (tmp_path / "plain").write_text(f"Authorization: Bearer {KEY}")
    with duckdb.connect(str(tmp_path / "ledger")) as connection:
        connection.execute("create table t as select {'a': [?]} as nested from range(5000)", [KEY])
    lite = sqlite3.connect(tmp_path / "server.db")
    lite.execute("create table runs (state)")
    lite.execute("insert into runs values (?)", ["x" * 50_000 + KEY])
    lite.commit()
    lite.close()
    found = {Path(place.partition(":")[0]).name for place in found_in(KEY, everything_below([tmp_path]))}
    assert found == {"result", "log.gz", "plain", "ledger", "server.db"}
