"""Checkpoints: folders that hold everything a step needs, put in place whole or not at all.

Rows of the ledger outlive their files: only the newest two folders of a run are kept. Leaves out: what is in
a folder (`cyclealign.white_box.white_box`).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cyclealign.disk import flush, writing
from storage.ledger import Ledger

KEPT = 2
"""The newest, and one before it in case the disk loses the newest."""


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """What a checkpoint is of."""

    run_name: str
    step: int
    """The next step to run."""
    optimizer_steps: int
    weights_sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are there."""

    step: int
    """The next step to run."""
    optimizer_steps: int
    folder: Path
    weights_sha256: str


def write(ledger: Ledger, checkpoint: NewCheckpoint, save: Callable[[Path], None]) -> Checkpoint:
    """Have `save` write into a folder, put it in place, record it, and remove all but the newest two.

    Raises:
        StorageFull: the disk is full or read-only; the checkpoints there are still complete.
    """
    path = Path(checkpoint.run_name) / "checkpoints" / f"step-{checkpoint.step:06d}"
    folder = ledger.home / path
    with writing(folder):
        _write_folder(folder, save)
    _record(ledger, checkpoint, path)
    _remove_old(folder.parent)
    return Checkpoint(checkpoint.step, checkpoint.optimizer_steps, folder, checkpoint.weights_sha256)


def latest(ledger: Ledger, run_name: str) -> Checkpoint | None:
    """The newest checkpoint of a run whose files are there, None when there is none."""
    with ledger.session() as session:
        rows = session.rows("checkpoints/list", run_name=run_name)
    for row in rows:
        folder = ledger.home / row["path"]
        if folder.is_dir():
            return Checkpoint(row["step"], row["optimizer_steps"], folder, row["weights_sha256"])
    return None


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


def _record(ledger: Ledger, checkpoint: NewCheckpoint, path: Path) -> None:
    size = sum(file.stat().st_size for file in (ledger.home / path).rglob("*") if file.is_file())
    with ledger.session() as session:
        session.run(
            "checkpoints/put",
            run_name=checkpoint.run_name,
            step=checkpoint.step,
            optimizer_steps=checkpoint.optimizer_steps,
            path=str(path),
            weights_sha256=checkpoint.weights_sha256,
            size_bytes=size,
        )


def _remove_old(parent: Path) -> None:
    folders = sorted(folder for folder in parent.iterdir() if folder.name.startswith("step-"))
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder)
