"""An exhibit on the run page."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import Artifact

from storage import runs
from storage.ledger import Ledger
from tasks.evaluation.publication import publish_exhibits
from tests.storage.values import new_run


def test_an_exhibit_is_an_artifact_with_its_tables_and_its_plot(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    runs.register(ledger, new_run())

    @flow
    def publish() -> None:
        publish_exhibits(ledger, ["table-3"], "a-run")
        publish_exhibits(ledger, ["figure-5"], "a-run", reward_model="rm")

    publish()
    table, figure = (Artifact.get(key) for key in ("table-3", "figure-5"))
    assert table is not None
    assert "CycleAlign PRO" in str(table.data)
    assert "data:image/png;base64," in str(table.data)
    assert figure is not None
    assert "no rows for this yet" in str(figure.data)
