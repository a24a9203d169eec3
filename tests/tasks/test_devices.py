"""One run trains on a device at a time, and the dead hold none."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from contextvars import copy_context
from io import StringIO
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from prefect.settings import PREFECT_HOME, temporary_settings

from cyclealign.errors import CycleAlignError
from tasks.context import load_settings
from tasks.devices import device_slot, devices_of, unshared
from tests.forks import FORKS, start

GPU = "some GPU"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing was ever locked."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_settings({PREFECT_HOME: tmp_path}):
        yield tmp_path


@pytest.mark.parametrize("device", [GPU, "cpu"])
def test_a_second_run_waits_for_the_device_and_says_so(device: str) -> None:
    events: list[str] = []

    def second_run() -> None:
        with device_slot(device):
            events.append("second in")

    thread = threading.Thread(target=copy_context().run, args=[second_run], daemon=True)
    with device_slot(device), redirect_stderr(StringIO()) as said:  # capsys loses what is written while it reads
        thread.start()
        while "Waiting: another run trains on" not in said.getvalue():
            assert thread.is_alive()
            time.sleep(0.01)
        events.append("first out")
    thread.join(60)
    assert events == ["first out", "second in"]


def test_runs_that_share_no_server_share_the_cpu_and_wait_for_a_gpu(machine: Path) -> None:
    with device_slot("cpu"), unshared(), device_slot("cpu"), device_slot(GPU):
        assert len(list(machine.glob("*some GPU*.lock"))) == 1


def hold(folder: str, holding: Event) -> None:
    """A run that trains until it is killed."""
    tempfile.tempdir = folder
    with device_slot(GPU):
        holding.set()
        signal.pause()


def test_a_device_whose_holder_was_killed_is_free_at_once(machine: Path) -> None:
    holding = FORKS.Event()
    holder = start(hold, str(machine), holding)
    assert holding.wait(120)
    holder.kill()
    holder.join()
    with device_slot(GPU):
        pass


def test_a_lock_can_be_taken_by_every_user_and_a_closed_one_is_named(machine: Path) -> None:
    before = os.umask(0o077)
    try:
        with device_slot(GPU):
            (lock,) = machine.iterdir()
    finally:
        os.umask(before)
    assert lock.stat().st_mode & 0o777 == 0o644
    lock.unlink()
    lock.symlink_to(machine / "folder" / "nowhere")
    with pytest.raises(CycleAlignError, match="The lock of a device"), device_slot(GPU):
        pass


def test_a_gpu_is_the_same_one_whatever_its_number_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"0": "2b1f0c77", "1": "1a0e9d3c"}  # the machine's GPUs by the number that CUDA_VISIBLE_DEVICES gives them

    def properties(index: int) -> SimpleNamespace:
        number = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[index]
        return SimpleNamespace(name="Some GPU", uuid=f"{there[number]}-0123")

    devices_of(load_settings("laptop", {}))  # packages look for CUDA when they are imported
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    held = {}
    for visible, ranks in (("0", 1), ("1", 1), ("0,1", 2), ("1,0", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        held[visible] = devices_of(load_settings("laptop", {"training": {"ranks": ranks}}))
    assert held["0"] == ["Some GPU 2b1f0c77"]
    assert held["1"] == ["Some GPU 1a0e9d3c"]
    assert held["0,1"] == held["1,0"] == [*held["1"], *held["0"]]
