"""What `cyclealign doctor` says of each thing it looks at, and the one question it asks of the network."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and what to do when it is bad or might be."""

    what: str
    found: str
    bad: bool = False
    todo: str = ""

    def line(self) -> str:
        """`ok   python: 3.11.7`; or `BAD  key: …`, or `note cap: …`, and below it what to do."""
        mark = "BAD " if self.bad else "note" if self.todo else "ok  "
        return f"{mark} {self.what}: {self.found}" + (f"\n     -> {self.todo}" if self.todo else "")


def reachable(what: str, host: str, port: int, todo: str) -> Finding:
    """Whether something listens there; nothing is sent."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return Finding(what, f"{host}:{port} cannot be reached ({error})", True, todo)
    return Finding(what, f"{host}:{port} answers")
