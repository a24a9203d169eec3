"""An exhibit on the run page."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import Artifact

from storage import runs
from storage.ledger import Ledger
from tasks.context import RunContext
from tasks.publication import publish_exhibit
from tests.storage.values import new_run, settings


def test_an_exhibit_is_an_artifact_with_its_tables_and_its_plot(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    runs.register(ledger, new_run())
    context = RunContext(tmp_path, "a-run", settings(), ledger)

    @flow
    def publish() -> None:
        publish_exhibit(context, "table-3")
        publish_exhibit(context, "figure-5", reward_model="rm")

    publish()
    table, figure = (Artifact.get(key) for key in ("table-3", "figure-5"))
    assert table is not None
    assert "CycleAlign PRO" in str(table.data)
    assert "data:image/png;base64," in str(table.data)
    assert figure is not None
    assert "no rows for this yet" in str(figure.data)
