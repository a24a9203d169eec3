"""Flow runs that died unseen are marked as crashed, and those that live are not."""

from collections.abc import Iterator

import pytest
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from tasks.devices import AUTOMATION, create_heartbeat_automation


def automations() -> list[Automation]:
    with get_client(sync_client=True) as client:
        return list(client.read_automations_by_name(AUTOMATION))


@pytest.fixture(autouse=True)
def no_automation() -> Iterator[None]:
    yield
    with get_client(sync_client=True) as client:
        for one in automations():
            client.request("DELETE", "/automations/{id}", path_params={"id": str(one.id)})


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
