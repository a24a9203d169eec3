"""An empty ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()
