"""The prompts of a run are those that it began with, whatever the files say later."""

from pathlib import Path

import pandas as pd
import pytest

from cyclealign.data.hh_rlhf import DialogueTable
from cyclealign.errors import DataError
from cyclealign.records import SUBSETS
from cyclealign.settings import DataSettings
from storage import samples
from storage.dialogues import PreparedDialogues, prepare
from storage.ledger import Ledger
from storage.sampling import Draw
from tasks.context import RunContext, load_settings
from tasks.preparation import draw

TRAINING, EVALUATION = Draw("training", 0, prompts=8), Draw("evaluation", 0, per_subset=2)


def dialogues(ledger: Ledger, word: str, revision: str) -> PreparedDialogues:
    """Four prompts of each subset and split."""
    rows = [
        (subset, split, *(f"Human: {subset} {split} {word} {n}\n\nAssistant: {reply}" for reply in ("good", "bad")))
        for subset in SUBSETS
        for split in ("train", "test")
        for n in range(4)
    ]
    table = pd.DataFrame(rows, columns=["subset", "split", "chosen", "rejected"])
    return prepare(ledger, DialogueTable("hub", table, revision), DataSettings(source="hub"))


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


def test_a_run_does_not_go_on_with_other_prompts_than_it_began_with(context: RunContext) -> None:
    draw(context, dialogues(context.ledger, "tea", "1"), TRAINING)
    digest = samples.of_run(context.ledger, "a-run", "training")
    with pytest.raises(DataError, match="8 of its 8 prompts would be others"):
        draw(context, dialogues(context.ledger, "coffee", "2"), TRAINING)
    assert samples.of_run(context.ledger, "a-run", "training") == digest


def test_an_evaluation_may_ask_for_other_prompts(context: RunContext) -> None:
    draw(context, dialogues(context.ledger, "tea", "1"), EVALUATION)
    drawn = draw(context, dialogues(context.ledger, "coffee", "2"), EVALUATION)
    assert all("coffee" in prompt.instruction for prompt in drawn)
    digest = samples.of_run(context.ledger, "a-run", "evaluation") or ""
    assert tuple(samples.read(context.ledger, digest)) == drawn
