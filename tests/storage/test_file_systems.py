"""A ledger on a network file system is refused, on any other not, and the environment can allow it."""

from pathlib import Path

import pytest

from cyclealign.errors import LedgerOnNetwork
from storage.file_systems import Mount, is_network, mount_of, mounts, refuse_network, require_local

MOUNTS = [
    Mount(Path("/"), "ext4"),
    Mount(Path("/home"), "autofs"),
    Mount(Path("/home"), "nfs4"),
    Mount(Path("/home/me/local"), "xfs"),
    Mount(Path("/homely"), "btrfs"),
    Mount(Path("/mnt/box"), "fuse.sshfs"),
]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/runs/ledger.duckdb", "ext4"),
        ("/home/me/runs/ledger.duckdb", "nfs4"),
        ("/home/me/local/ledger.duckdb", "xfs"),
        ("/homely/ledger.duckdb", "btrfs"),
        ("/mnt/box/ledger.duckdb", "fuse.sshfs"),
    ],
)
def test_a_file_lies_on_the_mount_nearest_above_it_and_the_later_of_two(path: str, kind: str) -> None:
    found = mount_of(Path(path), MOUNTS)
    assert found is not None
    assert found.kind == kind


def test_without_any_mount_nothing_is_known_and_nothing_refused() -> None:
    assert mount_of(Path("/somewhere"), []) is None
    refuse_network(Path("/somewhere"), [], allowed=False)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.s3fs", "lustre", "CIFS"])
def test_network_file_systems_are_known(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "9p", ""])
def test_disks_of_this_machine_are_no_network(kind: str) -> None:
    assert not is_network(kind)


def test_a_refusal_names_place_kind_and_both_ways_out() -> None:
    path = Path("/home/me/runs/ledger.duckdb")
    with pytest.raises(LedgerOnNetwork) as caught:
        refuse_network(path, MOUNTS, allowed=False)
    for words in (str(path), "nfs4", "CYCLEALIGN_HOME", "CYCLEALIGN_ALLOW_NETWORK_HOME=1"):
        assert words in str(caught.value)
    refuse_network(path, MOUNTS, allowed=True)


def test_this_machine_has_mounts_and_a_local_place_passes(tmp_path: Path) -> None:
    assert any(mount.folder == Path("/") for mount in mounts())
    require_local(tmp_path / "ledger.duckdb")
