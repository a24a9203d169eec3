"""A real browser over the WebDriver protocol: the few commands that the tests need, without a package for them."""

import base64
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARROW_LEFT, ARROW_RIGHT, ARROW_DOWN = "\ue012", "\ue014", "\ue015"
"""Keys as WebDriver spells them."""
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # its sandbox does not start as root; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


class Browser:
    """One window."""

    def __init__(self, client: httpx2.Client, session: str) -> None:
        self._client = client
        self._path = f"/session/{session}"

    def open(self, url: str) -> None:
        self._send("POST", "/url", url=url)

    def back(self) -> None:
        self._send("POST", "/back")

    def press(self, key: str) -> None:
        """Press and let go of a key, on whatever has the focus, once the page listens."""
        self.wait_for("return document.documentElement.dataset.listening === 'yes'")
        events = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": events}])

    def run(self, script: str) -> Any:
        """What a script of the test's own returns; the page's policy does not apply to it."""
        return self._send("POST", "/execute/sync", script=script, args=[])

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def wait_for(self, script: str, seconds: float = 20) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"Waited {seconds} s for {script}; the page shows: {self.text()}")
            time.sleep(0.05)
        return found

    def wait_for_text(self, text: str) -> None:
        self.wait_for(f"return document.body.innerText.includes({text!r})")

    def complaints(self) -> list[str]:
        """What the browser's console holds: scripts that failed, and what the page's policy has stopped."""
        return [entry["message"] for entry in self._send("POST", "/se/log", type="browser")]

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def _send(self, method: str, path: str, **body: Any) -> Any:
        reply = self._client.request(method, self._path + path, json=body if method == "POST" else None)
        value = reply.json()["value"]
        assert reply.status_code == 200, value
        return value


@contextmanager
def browser() -> Iterator[Browser]:
    """A window of a browser with nothing in its profile; closed afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as profile:
        options = {"binary": CHROMIUM, "args": [*_OPTIONS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                _until_ready(client)
                reply = client.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
                assert reply.status_code == 200, reply.text
                session = reply.json()["value"]["sessionId"]
                yield Browser(client, session)
                client.delete(f"/session/{session}")
        finally:
            process.terminate()  # its browser with it
            process.wait(timeout=10)


def _until_ready(client: httpx2.Client) -> None:
    for _ in range(200):
        try:
            client.get("/status")
            return
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError("chromedriver did not answer within 10 s")
