"""Checkpoints are whole or not there, and the newest two are kept."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cyclealign.errors import StorageFull
from storage import checkpoints
from storage.ledger import Ledger
from tests.full_disk import files_up_to


def write(ledger: Ledger, step: int, text: str = "weights") -> None:
    def save(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text(text)

    checkpoints.write(ledger, "a-run", step, step * 2, f"sha-{step}", save)


def kept(ledger: Ledger) -> list[str]:
    return sorted(path.name for path in (ledger.home / "a-run" / "checkpoints").iterdir())


def test_there_is_no_checkpoint_at_first(ledger: Ledger) -> None:
    assert checkpoints.latest(ledger, "a-run") is None


def test_the_newest_checkpoint_is_found_and_the_newest_two_are_kept(ledger: Ledger) -> None:
    for step in (25, 50, 75):
        write(ledger, step)
    found = checkpoints.latest(ledger, "a-run")
    assert found is not None
    assert (found.step, found.optimizer_steps, found.weights_sha256) == (75, 150, "sha-75")
    assert (ledger.home / found.path / "adapter" / "weights").read_text() == "weights"
    assert kept(ledger) == ["step-000050", "step-000075"]


def test_a_checkpoint_whose_folder_is_gone_is_skipped(ledger: Ledger) -> None:
    write(ledger, 25)
    write(ledger, 50)
    found = checkpoints.latest(ledger, "a-run")
    assert found is not None
    (ledger.home / found.path / "adapter" / "weights").unlink()
    (ledger.home / found.path / "adapter").rmdir()
    (ledger.home / found.path).rmdir()
    earlier = checkpoints.latest(ledger, "a-run")
    assert earlier is not None
    assert earlier.step == 25


def test_a_save_that_fails_leaves_the_checkpoints_as_they_were(ledger: Ledger) -> None:
    write(ledger, 25)

    def save(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageFull, match="No space left on device"):
        checkpoints.write(ledger, "a-run", 50, 100, "sha", save)
    found = checkpoints.latest(ledger, "a-run")
    assert found is not None
    assert found.step == 25
    write(ledger, 50)
    assert kept(ledger) == ["step-000025", "step-000050"]


def test_tensors_that_do_not_fit_are_told_and_take_no_room(ledger: Ledger) -> None:
    write(ledger, 25)
    tensors = {"weights": np.zeros(50_000)}

    def save(folder: Path) -> None:
        save_file(tensors, folder / "weights.safetensors")

    with (
        pytest.raises(StorageFull, match=r"step-000050 could not be written: File too large.*safe"),
        files_up_to(9_000),
    ):
        checkpoints.write(ledger, "a-run", 50, 100, "sha", save)
    assert kept(ledger) == ["step-000025"]
    found = checkpoints.latest(ledger, "a-run")
    assert found is not None
    assert found.step == 25
    checkpoints.write(ledger, "a-run", 50, 100, "sha", save)
    assert kept(ledger) == ["step-000025", "step-000050"]


def test_a_checkpoint_written_again_replaces_the_first(ledger: Ledger) -> None:
    write(ledger, 25, "first")
    write(ledger, 25, "second")
    found = checkpoints.latest(ledger, "a-run")
    assert found is not None
    assert (ledger.home / found.path / "adapter" / "weights").read_text() == "second"
