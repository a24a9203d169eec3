"""Whether a place lies on a disk of this machine or on a network, where DuckDB's locks are not to be relied on.

On a network file system a lock may be granted to two machines at once, or be lost when the server restarts, and
then two processes write the same ledger. What a virtual machine or a container shares with its own host (9p,
virtiofs) is left alone: processes of one machine see each other's locks there.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cyclealign.errors import LedgerOnNetwork

ALLOWED = "CYCLEALIGN_ALLOW_NETWORK_HOME"
"""The environment variable that lets a ledger stand on a network file system."""
NETWORK = re.compile(
    r"(fuse\.)?(afpfs|afs|beegfs|blobfuse2?|ceph|ceph-fuse|cifs|coda|curlftpfs|davfs2?|gcsfuse|glusterfs|goofys|gpfs"
    r"|juicefs|lustre|mount-s3|ncpfs|nfs4?|orangefs|pvfs2|rclone|s3fs|smb[23]?|smbfs|smbnetfs|sshfs|webdav)"
)
"""Kinds of file systems that are reached over a network; those in user space begin with `fuse.`."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system and the folder under which it is seen."""

    folder: Path
    kind: str
    """As the system calls it: ext4, nfs4, fuse.sshfs, …"""


def mounts() -> list[Mount]:
    """The file systems of this machine; of two under one folder the later hides the earlier."""
    return [Mount(Path(part.mountpoint), part.fstype) for part in psutil.disk_partitions(all=True)]


def mount_of(path: Path, known: Sequence[Mount]) -> Mount | None:
    """The file system that holds `path` (absolute, links resolved); None where no mount is known."""
    above = [mount for mount in known if path.is_relative_to(mount.folder)]
    return max(reversed(above), key=lambda mount: len(mount.folder.parts), default=None)


def is_network(kind: str) -> bool:
    """Whether a file system of this kind is reached over a network."""
    return NETWORK.fullmatch(kind.lower()) is not None


def refuse_network(path: Path, known: Sequence[Mount], *, allowed: bool) -> None:
    """Refuse a ledger at `path` that a network file system would hold, unless that is allowed.

    Raises:
        LedgerOnNetwork: it would, and it is not.
    """
    found = mount_of(path, known)
    if found is not None and is_network(found.kind) and not allowed:
        raise LedgerOnNetwork(
            f"{path} lies on {found.folder}, a network file system ({found.kind}). Expected a disk of this machine: "
            "over a network DuckDB's lock does not keep a second process out, and two would spoil the ledger. Set "
            f"CYCLEALIGN_HOME to a folder on a local disk; or, where one machine alone uses it, {ALLOWED}=1."
        )


def require_local(path: Path) -> None:
    """`refuse_network` on this machine, for the file at `path` as the environment has it.

    Raises:
        LedgerOnNetwork: the file would lie on a network file system, and the environment does not allow it.
    """
    refuse_network(path.resolve(), mounts(), allowed=os.environ.get(ALLOWED, "") not in ("", "0"))
