"""What a disk that is full or not writable does to a write, told in the same words wherever it happens.

Wrapped around everything that the application writes except the ledger, whose faults `storage.faults`
translates. Leaves out what kind of file system it is (`storage.file_systems`).
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
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
