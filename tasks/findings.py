"""What `cyclealign doctor` says of each thing it looks at, and the one question it asks of the network."""

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


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


def listens(who: str, base_url: str) -> Finding:
    """Whether something listens at an endpoint's address; behind a proxy only a request could tell."""
    address = urlsplit(base_url)
    host, port = address.hostname or "", address.port or (443 if address.scheme.lower() == "https" else 80)
    if address.scheme.lower() in getproxies() and not proxy_bypass(host):
        return Finding(f"{who}, endpoint", f"{host}:{port}, through a proxy")
    return reachable(f"{who}, endpoint", host, port, "Check base_url and the network.")
