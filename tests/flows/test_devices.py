"""One run trains on a device at a time; flow runs that died unseen are marked as crashed, living ones are not."""

import threading
from collections.abc import Iterator

import pytest
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from tasks import devices
from tasks.devices import (
    AUTOMATION,
    create_heartbeat_automation,
    create_slots,
    device_slot,
    slot_name,
    unshared,
)


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


@pytest.mark.parametrize(
    ("device", "limited"), [("cuda:7", False), ("cpu", True)], ids=["GPU", "CPU that a server limits"]
)
def test_a_second_run_waits_for_the_device_and_says_so(
    device: str, limited: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if limited:
        create_slots()
    events: list[str] = []
    with device_slot(device):
        thread = second_run(device, events)
        assert said_waiting(capsys, thread)
        events.append("first out")
    thread.join(60)
    assert events == ["first out", "second in"]


def test_the_server_knows_who_holds_a_slot_and_that_it_was_given_back() -> None:
    create_slots()
    create_slots()  # the second time it is there
    with device_slot("cpu"):
        assert taken("cpu") == 1
    assert taken("cpu") == 0


@pytest.mark.parametrize("patience_s", [0.0, 0.01, 0.02, 0.03])
def test_a_server_that_answers_late_gives_a_slot_once(
    patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_slots()
    monkeypatch.setattr(devices, "PATIENCE_S", patience_s)
    with device_slot("cpu"):
        assert taken("cpu") == 1
    assert taken("cpu") == 0


def test_a_run_on_a_server_of_its_own_leaves_no_slot_behind_that_its_death_would_keep() -> None:
    create_slots()
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
