"""aimock, a mock of chat-completions servers written by others, as a process of its own on loopback.

`@copilotkit/aimock` from npm (MIT), installed into a temporary folder each time. Its chaos injects 500s, bodies that
are no JSON, 429s with Retry-After and cut connections at given rates; its fixtures answer by a mark in the prompt; its
journal lists what arrived and how it was answered.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

PACKAGE = "@copilotkit/aimock@1.43.0"
SCRIPT = "node_modules/@copilotkit/aimock/dist/cli.js"
STARTUP_S = 30.0


class AimockMissing(Exception):
    """aimock cannot be run here; the message says why and what to do."""


@dataclass(frozen=True)
class Aimock:
    """A running server."""

    root: str

    @property
    def url(self) -> str:
        """The base URL for a chat-completions client."""
        return f"{self.root}/v1"

    def journal(self) -> list[dict[str, Any]]:
        """Every chat completion that arrived, in order; `response` holds its status and, if any, its chaos."""
        with urlopen(f"{self.root}/__aimock/journal?path=/chat/completions") as answer:  # noqa: S310  loopback
            entries: list[dict[str, Any]] = json.load(answer)
        return entries


@contextmanager
def serving(fixtures: Sequence[Mapping[str, Any]], chaos: Mapping[str, float]) -> Iterator[Aimock]:
    """Install and run the server for the block.

    Args:
        fixtures: What it answers, first match first.
        chaos: Rates by the name of the command's option, for example `drop`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        install(folder)
        (folder / "fixtures.json").write_text(json.dumps({"fixtures": list(fixtures)}))
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        rates = [word for name, rate in chaos.items() for word in (f"--chaos-{name}", f"{rate:.4f}")]
        options = ["--port", str(port), "--fixtures", str(folder / "fixtures.json"), "--journal-max", "0", *rates]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(["node", SCRIPT, *options], cwd=folder, stdout=log, stderr=log)
        try:
            yield wait_for(process, Aimock(f"http://127.0.0.1:{port}"), folder / "log")
        finally:
            process.terminate()
            process.wait()


def install(folder: Path) -> None:
    """Put the package into a folder."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise AimockMissing("npm was not found. Install Node.js 20 or newer, which brings it.")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    command = ["npm", "install", "--prefix", str(folder), *options, PACKAGE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AimockMissing(f"npm could not install {PACKAGE}: {done.stderr.strip()[-300:]}")


def wait_for(process: "subprocess.Popen[bytes]", server: Aimock, log: Path) -> Aimock:
    """The server, once it answers."""
    deadline = time.monotonic() + STARTUP_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.journal()
        except (URLError, OSError):
            time.sleep(0.05)
        else:
            return server
    raise AimockMissing(f"{PACKAGE} did not start: {log.read_text()[-300:]}")
