from pathlib import Path

import pytest

from cyclealign.models.offline.folders import build_once


def fill(folder: Path) -> None:
    (folder / "file").write_text("complete")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    assert build_once(tmp_path / "deep" / "target", fill)
    assert not build_once(tmp_path / "deep" / "target", fill)
    assert (tmp_path / "deep" / "target" / "file").read_text() == "complete"


def test_a_build_that_fails_or_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".target-unfinished-killed").mkdir()

    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "target", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".target.lock"]
    assert build_once(tmp_path / "target", fill)
