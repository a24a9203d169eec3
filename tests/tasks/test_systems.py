"""The systems of an evaluation, looked at before any model is loaded."""

from pathlib import Path

import pytest

from cyclealign.compared_systems import ComparedSystem
from cyclealign.errors import ModelError, UsageError
from cyclealign.profiles import resolve
from storage.ledger import Ledger
from tasks.context import RunContext
from tasks.evaluation.systems import check_systems
from tests.tiny_llama import save_tiny_llama

MAPPING = {"data": {"source": "folder"}, "white_box": {"model": "m"}, "black_box": {"model": "some-model"}}


@pytest.fixture
def context(ledger: Ledger) -> RunContext:
    """A run on dialogues from a folder; none of its models is there."""
    return RunContext(ledger.home, "run", resolve("p", MAPPING, {}), ledger)


@pytest.mark.parametrize("name", ["./nowhere", "nowhere.gguf", "nobody/nowhere"])
def test_a_mistyped_model_is_named_with_its_label(context: RunContext, name: str) -> None:
    with pytest.raises(ModelError, match=r"System 'x'.*nowhere"):
        check_systems(context, [ComparedSystem(label="x", model=name)])


def is_found(context: RunContext, name: str) -> bool:
    try:
        check_systems(context, [ComparedSystem(label="x", model=name)])
    except ModelError:
        return False
    return True


def test_a_path_and_a_model_of_the_home_are_found(context: RunContext, tmp_path: Path) -> None:
    elsewhere = save_tiny_llama(tmp_path / "elsewhere")
    names = [str(elsewhere), "mine"]
    assert [is_found(context, name) for name in names] == [True, False]
    save_tiny_llama(context.home / "models" / "mine")
    assert [is_found(context, name) for name in names] == [True, True]


def test_the_worlds_model_is_refused_where_no_world_is_built(context: RunContext) -> None:
    with pytest.raises(UsageError, match=r"System 'x'.*dialogue world"):
        check_systems(context, [ComparedSystem(label="x", model="world")])
