"""A rank other than 0, as a program: it holds the same white box and follows rank 0.

Usage: `python -m cyclealign.white_box.rank_worker DESCRIPTOR FOLDER`, started by `ranks` in the environment of a
launcher (`RANK`, `WORLD_SIZE`, …). It knows nothing of the flow, the ledger, keys or the network, and lives no longer
than rank 0.
"""

import os
import queue
import shutil
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from cyclealign.settings import WhiteBoxSettings
from cyclealign.white_box import process_group
from cyclealign.white_box.loading import Recipe, resolve_device
from cyclealign.white_box.ranks import DONE, Command, Failed
from cyclealign.white_box.white_box import WhiteBox


class Worker:
    """This rank: each command of rank 0 is one of the methods."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def join(self, settings: WhiteBoxSettings, threads: int) -> None:
        """Meet the other ranks, and compute with so many threads from now on."""
        torch.set_num_threads(threads)
        process_group.join(self._folder, resolve_device(settings))

    def load(self, recipe: Recipe) -> None:
        """Load the white box."""
        self._white_box = WhiteBox.load(recipe)

    def call(self, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Call a method of the white box, as every other rank does at the same time."""
        getattr(self._white_box, method)(*arguments, **named)

    def leave(self) -> None:
        """Leave the group; it is the last command."""
        process_group.leave()


def main() -> None:
    """Follow rank 0 until it is gone."""
    rank_zero, folder = Connection(int(sys.argv[1])), Path(sys.argv[2])
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(rank_zero, commands, folder), daemon=True).start()
    try:
        worker = Worker(folder)
        rank_zero.send(DONE)  # it is there
        while True:
            method, arguments = commands.get()
            getattr(worker, method)(*arguments)
            rank_zero.send(DONE)
    except BaseException as error:
        last_words = Failed(f"{type(error).__name__}: {error}", traceback.format_exc(), time.monotonic())
        with suppress(OSError):
            rank_zero.send(last_words)
        os._exit(1)  # at once: the others must not wait for this rank


def listen(rank_zero: Connection, commands: "queue.SimpleQueue[Command]", folder: Path) -> None:
    """Take commands in while the rank computes; end it, wherever it is, when rank 0 is gone."""
    while True:
        try:
            commands.put(rank_zero.recv())
        except (EOFError, OSError):
            shutil.rmtree(folder, ignore_errors=True)  # rank 0 may have had no time to
            os._exit(0)


if __name__ == "__main__":
    main()
