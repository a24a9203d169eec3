"""The error of a full or read-only disk, in the same words for every write, and folders that are built once.

Every write of the application but those of the ledger goes through it; `storage.faults` translates the ledger's.
Leaves out the kinds of file systems (`storage.file_systems`).
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cyclealign.errors import StorageFull

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
PROBE_BYTES = 2**20


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever the block writes is, or lies below, `path`; errors that are no fault of the disk pass unchanged.

    Raises:
        StorageFull: the disk is full or read-only, or `path` may not be written.
    """
    try:
        yield
        return
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        problem = error.strerror or str(error)
    except SafetensorError as error:  # has the system's number in its text alone
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None or int(found[1]) not in NO_ROOM:
            raise
        problem = os.strerror(int(found[1]))
    raise StorageFull(
        f"{path} could not be written: {problem}. Expected a writable disk with free space. What was finished "
        "before is safe: make room or correct the permissions, then run the same command again."
    )


def flush(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(folder: Path) -> None:
    """Make the folder where it is missing, and try whether a small file can be written into it.

    Raises:
        StorageFull: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
        return
    except OSError as error:
        problem = error.strerror or str(error)
    raise StorageFull(
        f"{folder} cannot be written to: {problem}. Expected a folder of yours with free space: make room, or set "
        "CYCLEALIGN_HOME to another folder."
    )


def require_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        StorageFull: the disk of `folder` has less free space.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StorageFull(
            f"{folder} has {free / 2**20:,.0f} MiB free, expected at least {needed_bytes / 2**20:,.0f} MiB, which "
            "is what will be written there. Make room, or set CYCLEALIGN_HOME to a folder on a larger disk."
        )


def build_once(target: Path, build: Callable[[Path], None]) -> bool:
    """Makes the folder `target` unless it is there; a finished folder never changes.

    It appears under its name when it is complete, so that nothing passes a killed build's leavings for a result.
    Builders of the same folder wait for each other.

    Args:
        target: The folder.
        build: Fills the empty folder that it gets, which is then renamed to `target`.

    Returns:
        Whether anything was built.

    Raises:
        StorageFull: the disk is full or read-only; nothing unfinished stays.
    """
    if target.is_dir():
        return False
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system frees it when the process ends, in whatever way
            if target.is_dir():
                return False
            unfinished = f".{target.name}-unfinished-"
            for left_over in target.parent.glob(f"{unfinished}*"):  # of builds that were killed: the lock is ours
                shutil.rmtree(left_over)
            folder = Path(tempfile.mkdtemp(prefix=unfinished, dir=target.parent))
            try:
                build(folder)
                folder.rename(target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return True
