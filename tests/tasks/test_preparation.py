"""The prompts of a run are those that it began with, whatever the files say later."""

from pathlib import Path

import pandas as pd
import pytest

from cyclealign.data.hh_rlhf import DialogueTable
from cyclealign.errors import DataError
from cyclealign.settings import DataSettings
from storage import samples
from storage.dialogues import PreparedDialogues, prepare
from storage.ledger import Ledger
from tasks.context import RunContext, load_settings
from tasks.preparation import draw_evaluation, draw_training

SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")


def dialogues(ledger: Ledger, word: str, revision: str, replies: str = "good bad") -> PreparedDialogues:
    """Four prompts of each subset and split."""
    rows = [
        (subset, split, *(f"Human: {subset} {split} {word} {n}\n\nAssistant: {one}" for one in replies.split()))
        for subset in SUBSETS
        for split in ("train", "test")
        for n in range(4)
    ]
    table = pd.DataFrame(rows, columns=["subset", "split", "chosen", "rejected"])
    return prepare(ledger, DialogueTable("hub", table, revision), DataSettings(source="hub"))


@pytest.fixture
def context(ledger: Ledger, tmp_path: Path) -> RunContext:
    counts = {"data": {"prompts": 8}, "evaluation": {"prompts_per_subset": 2}}
    return RunContext(tmp_path, "a-run", load_settings("laptop", counts), ledger)


def test_the_same_prompts_filtered_by_another_version_stay_the_runs_sample(context: RunContext) -> None:
    first, second = (dialogues(context.ledger, "tea", revision) for revision in ("1", "2"))
    assert first.dataset_digest != second.dataset_digest
    for purpose, draw in (
        ("training", lambda data: draw_training(context, data, ())),
        ("evaluation", lambda data: draw_evaluation(context, data)),
    ):
        drawn, digest = draw(first), samples.of_run(context.ledger, "a-run", purpose)
        assert draw(second) == drawn
        assert samples.of_run(context.ledger, "a-run", purpose) == digest


def test_a_run_does_not_go_on_with_other_prompts_than_it_began_with(context: RunContext) -> None:
    draw_training(context, dialogues(context.ledger, "tea", "1"), ())
    digest = samples.of_run(context.ledger, "a-run", "training")
    with pytest.raises(DataError, match="8 of its 8 prompts would be others"):
        draw_training(context, dialogues(context.ledger, "coffee", "2"), ())
    assert samples.of_run(context.ledger, "a-run", "training") == digest


def test_an_evaluation_may_ask_for_other_prompts(context: RunContext) -> None:
    draw_evaluation(context, dialogues(context.ledger, "tea", "1"))
    drawn = draw_evaluation(context, dialogues(context.ledger, "coffee", "2"))
    assert all("coffee" in prompt.instruction for prompt in drawn)
    digest = samples.of_run(context.ledger, "a-run", "evaluation") or ""
    assert tuple(samples.read(context.ledger, digest)) == drawn
