from pathlib import Path

import pytest

from cyclealign.errors import StorageFull
from cyclealign.offline.folders import build_once
from tests.full_disk import files_up_to


def fill(folder: Path) -> None:
    (folder / "file").write_text("complete")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    assert build_once(tmp_path / "deep" / "target", fill)
    assert not build_once(tmp_path / "deep" / "target", fill)
    assert (tmp_path / "deep" / "target" / "file").read_text() == "complete"


def test_a_build_that_does_not_fit_is_told_and_takes_no_room(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=r"target could not be written: File too large"), files_up_to(4):
        build_once(tmp_path / "target", fill)
    assert [path.name for path in tmp_path.iterdir()] == [".target.lock"]
    assert build_once(tmp_path / "target", fill)


def test_a_build_that_fails_or_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".target-unfinished-killed").mkdir()

    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "target", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".target.lock"]
    assert build_once(tmp_path / "target", fill)
