"""A rank other than 0, as a program: it holds the same white box and does what rank 0 tells it.

Usage: `python -m cyclealign.white_box.rank_worker DESCRIPTOR FOLDER`, started by `rank_processes` in the environment of
a launcher (`RANK`, `WORLD_SIZE`, …). It knows nothing of the flow, the ledger, keys or the network, and lives no longer
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

import torch

from cyclealign.white_box.loading import resolve_device
from cyclealign.white_box.process_group import join, leave
from cyclealign.white_box.rank_commands import DONE, Call, Command, Failed, Join, Leave, Load, Recipe
from cyclealign.white_box.white_box import WhiteBox

Commands = queue.SimpleQueue[Command]


def main() -> None:
    """Follow rank 0 until it is gone."""
    rank_zero, folder = Connection(int(sys.argv[1])), Path(sys.argv[2])
    commands: Commands = queue.SimpleQueue()
    threading.Thread(target=listen, args=(rank_zero, commands, folder), daemon=True).start()
    try:
        follow(rank_zero, commands, folder)
    except BaseException as error:
        last_words = Failed(f"{type(error).__name__}: {error}", traceback.format_exc(), time.monotonic())
        with suppress(OSError):
            rank_zero.send(last_words)
        os._exit(1)  # at once: the others must not wait for this rank


def listen(rank_zero: Connection, commands: Commands, folder: Path) -> None:
    """Take commands in, whatever the rank is doing; end it, wherever it is, when rank 0 is gone."""
    while True:
        try:
            commands.put(rank_zero.recv())
        except (EOFError, OSError):
            shutil.rmtree(folder, ignore_errors=True)  # rank 0 may have had no time to
            os._exit(0)


def follow(rank_zero: Connection, commands: Commands, folder: Path) -> None:
    """Say that it is there, then do one command after another."""
    white_box: WhiteBox | None = None
    rank_zero.send(DONE)
    while True:
        match commands.get():
            case Join(settings, threads):
                torch.set_num_threads(threads)
                join(folder, resolve_device(settings))
            case Load(recipe):
                white_box = load(recipe)
            case Call(method, arguments):
                getattr(white_box, method)(*arguments)
            case Leave():
                leave()
        rank_zero.send(DONE)


def load(recipe: Recipe) -> WhiteBox:
    """The white box of the recipe."""
    return WhiteBox.load(
        recipe.settings, recipe.training, recipe.method, seed=recipe.seed, model_path=recipe.model_path
    )


if __name__ == "__main__":
    main()
