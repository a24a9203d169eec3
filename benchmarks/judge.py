"""The offline judge in a process of its own: `python -m benchmarks.judge LOG [LATENCY_S]`.

`cyclealign judge`'s application, with a log of every question in front of it: a line when it arrives and a line when
its answer goes out (`tests.flows.asked`). Prints its URL when it listens. `JudgeProcess` starts it and reads the log.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.laptop import PROFILE
from benchmarks.measuring import ROOT
from cyclealign.loopback import Guard, serve
from tests.flows.asked import Asked, Counted

LONGEST_LINE = 300
"""Of the log, bytes."""


class JudgeProcess:
    """The running judge; a context manager. Keeps its log below `folder`, finds the world in `home`.

    Every answer comes `latency_s` seconds late, as many at once as are asked.
    """

    def __init__(self, folder: Path, home: Path, latency_s: float = 0.0) -> None:
        self._log = folder / "judge.jsonl"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.judge", str(self._log), str(latency_s)],
            cwd=ROOT,
            env={**os.environ, "CYCLEALIGN_HOME": str(home), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "JudgeProcess":
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("The judge did not start; its last words are above.")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def log(self, asker: str) -> list[Asked]:
        """All questions and answers of one asker so far, in order."""
        *lines, _ = self._log.read_text().split("\n")  # the last one is empty, or still being written
        return [one for one in (Asked(**json.loads(line)) for line in lines) if one.asker == asker]

    def is_asked_by(self, asker: str) -> bool:
        """Whether the newest line is a question of this asker."""
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LONGEST_LINE))
            last = log.read().decode().splitlines()[-1:]
        return any(f'"asker": "{asker}"' in line and '"answered": false' in line for line in last)


def late(app: ASGIApp, latency_s: float) -> ASGIApp:
    """The same application, later."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(latency_s)
        await app(scope, receive, send)

    return handle


def main(log: Path, latency_s: float = 0.0) -> None:
    """Serve until terminated."""
    from tasks.context import home_folder, load_settings  # noqa: PLC0415  `JudgeProcess` needs no torch
    from tasks.models import standalone_judge  # noqa: PLC0415

    app = late(standalone_judge(load_settings(PROFILE, {}), home_folder()), latency_s)
    with log.open("a", buffering=1) as lines, socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
        serve(Guard(Counted(app, lambda one: print(json.dumps(asdict(one)), file=lines))), listening)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:]))
