"""One run trains on a device at a time; flow runs that died unseen are marked as crashed, living ones are not."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from cyclealign.errors import CycleAlignError
from tasks import devices
from tasks.context import load_settings
from tasks.devices import (
    AUTOMATION,
    create_heartbeat_automation,
    create_slots,
    device_slot,
    devices_of,
    slot_name,
    unshared,
)


@pytest.fixture
def slots() -> Iterator[None]:
    """Limits as on a server for many; gone afterwards, or the next process that a test kills would keep a slot."""
    create_slots()
    yield
    with get_client(sync_client=True) as client:
        for device in devices.devices():
            client.delete_global_concurrency_limit_by_name(slot_name(device))


def taken(device: str) -> int:
    """Slots of a device that are held on the server."""
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(slot_name(device)).active_slots


def second_run(device: str, events: list[str]) -> threading.Thread:
    """Another run that wants the device, started."""

    def want() -> None:
        with device_slot(device):
            events.append("second in")

    thread = threading.Thread(target=want, daemon=True)
    thread.start()
    return thread


def said_waiting(capsys: pytest.CaptureFixture[str], thread: threading.Thread) -> bool:
    """Whether the run says so rather than ends; waits for one of both."""
    said = ""
    while thread.is_alive() and "Waiting: another run trains on" not in said:
        said += capsys.readouterr().err
        thread.join(0.05)
    return thread.is_alive()


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize("device", ["some GPU", "cpu"])
def test_a_second_run_waits_for_the_device_and_says_so(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[str] = []
    with device_slot(device):
        thread = second_run(device, events)
        assert said_waiting(capsys, thread)
        events.append("first out")
    thread.join(60)
    assert events == ["first out", "second in"]


def test_a_gpu_is_the_same_one_whatever_its_number_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"0": "2b1f0c77", "1": "1a0e9d3c"}  # the machine's GPUs by the number that CUDA_VISIBLE_DEVICES gives them

    def properties(index: int) -> SimpleNamespace:
        number = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[index]
        return SimpleNamespace(name="Some GPU", uuid=f"{there[number]}-0123")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    held = {}
    for visible, ranks in (("0", 1), ("1", 1), ("0,1", 2), ("1,0", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        held[visible] = devices_of(load_settings("laptop", {"training": {"ranks": ranks}}))
    assert held["0"] == ["Some GPU 2b1f0c77"]
    assert held["1"] == ["Some GPU 1a0e9d3c"]
    assert held["0,1"] == held["1,0"] == [*held["1"], *held["0"]]


def test_a_lock_can_be_taken_by_every_user_and_a_closed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.umask(0o077)
    try:
        with unshared(), device_slot("some GPU"):
            (lock,) = tmp_path.iterdir()
    finally:
        os.umask(before)
    assert lock.stat().st_mode & 0o777 == 0o644
    lock.unlink()
    tmp_path.joinpath(lock.name).symlink_to(tmp_path / "folder" / "nowhere")
    with pytest.raises(CycleAlignError, match="The lock of a GPU"), device_slot("some GPU"):
        pass


@pytest.mark.usefixtures("slots")
def test_the_server_knows_who_holds_a_slot_and_that_it_was_given_back() -> None:
    create_slots()  # the second time it is there
    with device_slot("cpu"):
        assert taken("cpu") == 1
    assert taken("cpu") == 0


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize("patience_s", [0.0, 0.01, 0.02, 0.03])
def test_a_server_that_answers_late_gives_a_slot_once(patience_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "PATIENCE_S", patience_s)
    with device_slot("cpu"):
        assert taken("cpu") == 1
    assert taken("cpu") == 0


@pytest.mark.usefixtures("slots")
def test_a_run_on_a_server_of_its_own_leaves_no_slot_behind_that_its_death_would_keep() -> None:
    with unshared(), device_slot("cpu"):
        assert taken("cpu") == 0


def automations() -> list[Automation]:
    with get_client(sync_client=True) as client:
        return list(client.read_automations_by_name(AUTOMATION))


@pytest.fixture
def no_automation() -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for one in automations():
            client.request("DELETE", "/automations/{id}", path_params={"id": str(one.id)})


@pytest.mark.usefixtures("no_automation")
@pytest.mark.parametrize("frequency", [30, 180])
def test_a_flow_run_is_given_three_heartbeats_whatever_their_frequency(frequency: int) -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: frequency}):
        create_heartbeat_automation()
        create_heartbeat_automation()  # the second time it is there
    (one,) = automations()
    assert one.trigger.within.total_seconds() == 3 * frequency  # type: ignore[union-attr]


def test_without_heartbeats_nobody_is_marked() -> None:
    create_heartbeat_automation()
    assert automations() == []
