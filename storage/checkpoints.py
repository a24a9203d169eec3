"""Checkpoints: folders that hold everything a step needs, put in place whole or not at all.

Rows of the ledger outlive their files: only the newest two folders of a run are kept. Leaves out: what is in
a folder (`cyclealign.white_box`).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cyclealign.disk import flush, writing
from storage.facts import fact, values
from storage.ledger import Ledger

KEPT = 2
"""The newest, and one before it in case the disk loses the newest."""


@fact("checkpoints")
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint: what the next step of a run needs."""

    run_name: str
    step: int
    """The next step to run."""
    optimizer_steps: int
    path: str
    """Of its folder, relative to the home."""
    weights_sha256: str
    size_bytes: int


def write(  # noqa: PLR0913, PLR0917  what a checkpoint is of, and how it is written
    ledger: Ledger, run_name: str, step: int, optimizer_steps: int, weights_sha256: str, save: Callable[[Path], None]
) -> None:
    """Have `save` write into a folder, put it in place, record it, and remove all but the newest two.

    Raises:
        StorageFull: the disk is full or read-only; the checkpoints there are still complete.
    """
    path = Path(run_name) / "checkpoints" / f"step-{step:06d}"
    folder = ledger.home / path
    with writing(folder):
        _write_folder(folder, save)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    ledger.record(Checkpoint(run_name, step, optimizer_steps, str(path), weights_sha256, size))
    folders = sorted(folder for folder in folder.parent.iterdir() if folder.name.startswith("step-"))
    for old in folders[:-KEPT]:
        shutil.rmtree(old)


def latest(ledger: Ledger, run_name: str) -> Checkpoint | None:
    """The newest checkpoint of a run whose files are there, None when there is none."""
    with ledger.session() as session:
        rows = session.rows("of_run", this_table="checkpoints", run_name=run_name)
    there = [one for one in values(Checkpoint, rows) if (ledger.home / one.path).is_dir()]
    return max(there, key=lambda one: one.step, default=None)


def _write_folder(folder: Path, save: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        save(new)
        for path in (*new.rglob("*"), new):
            flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        new.replace(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # what did not fit gives its room back
    flush(folder.parent)
