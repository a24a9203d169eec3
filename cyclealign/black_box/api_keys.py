"""Keys of servers: read from the environment by whoever sends them, and checked before a library quotes them.

Called by `black_box` and `vllm_server`; leaves out whether a server needs one.
"""

import os

from cyclealign.black_box.failures import AGAIN
from cyclealign.errors import EndpointRefused


def key_in(variable: str) -> str:
    """The key in an environment variable; empty where it is not set.

    Raises:
        EndpointRefused: it holds characters that no key has; the message does not show it.
    """
    key = os.environ.get(variable, "").strip()
    if key and (not key.isascii() or not key.isprintable() or " " in key):
        raise EndpointRefused(
            f"{variable} holds characters that no key has (spaces, line breaks or non-ASCII). {how_to_set(variable)}",
            kind="key",
        )
    return key


def how_to_set(variable: str) -> str:
    """The last sentences of an error about a key."""
    return f"Set it to the endpoint's API key, for example: export {variable}=…  {AGAIN}"
