"""Folders that are built once: they appear under their name when they are complete, and never change then.

A build that is killed leaves nothing that is mistaken for a result. Called by what makes models and heads.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from cyclealign.disk import writing


def build_once(target: Path, build: Callable[[Path], None]) -> bool:
    """Makes `target` unless it is there; builders of the same folder wait for each other.

    Args:
        target: The folder.
        build: Fills the empty folder that it is given, which is then renamed to `target`.

    Returns:
        Whether anything was built.

    Raises:
        StorageFull: the disk is full or read-only; nothing unfinished stays.
    """
    if target.is_dir():
        return False
    with writing(target):
        return _build_alone(target, build)


def _build_alone(target: Path, build: Callable[[Path], None]) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system frees it when the process ends, in whatever way
        if target.is_dir():
            return False
        unfinished = f".{target.name}-unfinished-"
        for left_over in target.parent.glob(f"{unfinished}*"):  # of builds that were killed: we hold the lock
            shutil.rmtree(left_over)
        folder = Path(tempfile.mkdtemp(prefix=unfinished, dir=target.parent))
        try:
            build(folder)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return True
