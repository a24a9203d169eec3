"""A disk that is full or not writable says so in one message, whoever was writing."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cyclealign.disk import build_once, require_room, require_writable, writing
from cyclealign.errors import StorageFull
from tests.full_disk import files_up_to


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_what_the_disk_refuses_is_told_with_what_to_do(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageFull) as caught, writing(tmp_path / "report"):
        raise OSError(number, os.strerror(number))
    for words in (str(tmp_path / "report"), os.strerror(number), "make room", "run the same command again"):
        assert words in str(caught.value)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone"), OSError("no number"), KeyError("x")])
def test_errors_that_are_no_fault_of_the_disk_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), writing(tmp_path):
        raise error


def test_tensors_that_do_not_fit_are_told_like_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    with pytest.raises(StorageFull, match="adapter could not be written"), files_up_to(1000), writing(path):
        save_file({"weights": np.zeros(10_000)}, path)


def test_a_folder_is_made_and_tried_and_stays_empty(tmp_path: Path) -> None:
    require_writable(tmp_path / "deep" / "home")
    assert list((tmp_path / "deep" / "home").iterdir()) == []


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFull, match=r"file/home cannot be written to: Not a directory.*CYCLEALIGN_HOME"):
        require_writable(tmp_path / "file" / "home")


def test_room_is_compared_with_what_is_needed(tmp_path: Path) -> None:
    require_room(tmp_path, 1)
    with pytest.raises(StorageFull, match=r"MiB free, expected at least 1,048,576,000,000 MiB"):
        require_room(tmp_path, 2**20 * 1_048_576_000_000)


def fill(folder: Path) -> None:
    (folder / "file").write_text("complete")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    assert build_once(tmp_path / "deep" / "target", fill)
    assert not build_once(tmp_path / "deep" / "target", fill)
    assert (tmp_path / "deep" / "target" / "file").read_text() == "complete"


def test_a_build_that_does_not_fit_is_a_full_disk_and_takes_no_room(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=r"target could not be written: File too large"), files_up_to(4):
        build_once(tmp_path / "target", fill)
    assert [path.name for path in tmp_path.iterdir()] == [".target.lock"]


def test_a_build_that_fails_or_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".target-unfinished-killed").mkdir()

    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "target", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".target.lock"]
    assert build_once(tmp_path / "target", fill)
