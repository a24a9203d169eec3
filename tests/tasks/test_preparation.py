"""The prompts of a run are those that it began with, whatever the files say later."""

from itertools import product
from pathlib import Path

import pytest

from cyclealign.errors import DataError
from cyclealign.records import SUBSETS
from cyclealign.settings import DataSettings
from storage import samples
from storage.dialogues import PreparedDialogues, prepare
from storage.ledger import Ledger
from storage.sampling import Draw
from tasks.context import RunContext, load_settings
from tasks.preparation import draw
from tests.storage.values import dialogue_table

TRAINING, EVALUATION = Draw("training", 0, prompts=8), Draw("evaluation", 0, per_subset=2)


def dialogues(ledger: Ledger, word: str, revision: str) -> PreparedDialogues:
    """Four prompts of each subset and split."""
    rows = [
        (subset, split, *(f"Human: {subset} {split} {word} {n}\n\nAssistant: {reply}" for reply in ("good", "bad")))
        for subset, split, n in product(SUBSETS, ("train", "test"), range(4))
    ]
    return prepare(ledger, dialogue_table(rows, revision), DataSettings(source="hub"))


@pytest.fixture
def context(ledger: Ledger, tmp_path: Path) -> RunContext:
    return RunContext(tmp_path, "a-run", load_settings("laptop", {}), ledger)


@pytest.mark.parametrize("wanted", [TRAINING, EVALUATION], ids=["training", "evaluation"])
def test_the_same_prompts_filtered_by_another_version_stay_the_runs_sample(context: RunContext, wanted: Draw) -> None:
    first, second = (dialogues(context.ledger, "tea", revision) for revision in ("1", "2"))
    assert first.dataset_digest != second.dataset_digest
    drawn, digest = draw(context, first, wanted), samples.of_run(context.ledger, "a-run", wanted.purpose)
    assert draw(context, second, wanted) == drawn
    assert samples.of_run(context.ledger, "a-run", wanted.purpose) == digest


def test_a_run_does_not_go_on_with_other_prompts_than_it_began_with_but_an_evaluation_may(context: RunContext) -> None:
    first, second = (dialogues(context.ledger, word, word) for word in ("tea", "coffee"))
    drawn = draw(context, first, TRAINING), draw(context, first, EVALUATION)
    with pytest.raises(DataError, match="8 of its 8 prompts would be others"):
        draw(context, second, TRAINING)
    others = draw(context, second, EVALUATION)
    assert all("coffee" in prompt.instruction for prompt in others)
    digests = [samples.of_run(context.ledger, "a-run", purpose) or "" for purpose in samples.PURPOSES]
    assert [tuple(samples.read(context.ledger, digest)) for digest in digests] == [drawn[0], others]
