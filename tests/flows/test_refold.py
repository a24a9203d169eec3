"""A refold trains from what another run recorded: without sampling, without a call, and with the same fold."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import SettingsChanged, UsageError
from cyclealign.profiles import merge
from flows.prepare import prepare
from flows.refold import refold
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.flows.conftest import SMALL
from tests.tiny_llama import save_tiny_llama


def count(home: Path, question: str) -> Any:
    return answer(home, question).iloc[0, 0]


def test_a_refold_with_unchanged_settings_ends_with_the_weights_of_its_source(whole: Path) -> None:
    generations, source = count(whole, "select count(*) from generations"), runs.get(Ledger(whole), "whole")
    again = refold(source="whole", run="again")
    assert (again["state"], again["weights_sha256"]) == ("complete", source.weights_sha256)
    assert count(whole, "select count(*) from generations") == generations
    assert count(whole, "select count(*) from api_attempts where run_name = 'again'") == 0
    row = runs.get(Ledger(whole), "again")
    assert (row.kind, row.source_run, row.settings_digest) == ("refold", "whole", source.settings_digest)
    assert "again" in (whole / "again" / "report" / "report.md").read_text()
    with pytest.raises(SettingsChanged, match="source_run: whole -> again"):
        refold(source="again", run="again")
    # as after a crash of the disk: the end is made again from the checkpoint before it
    shutil.rmtree(whole / "again" / "adapter")
    shutil.rmtree(max((whole / "again" / "checkpoints").iterdir()))
    assert refold(source="whole", run="again")["weights_sha256"] == source.weights_sha256


def test_another_order_objective_and_backbone_learn_from_the_same_texts(whole: Path, tmp_path: Path) -> None:
    backbone = save_tiny_llama(tmp_path / "another")  # with a tokenizer of its own
    method = {"rewrite": "off", "objective": "rrhf"}
    ended = refold("whole", "elsewhere", {"seed": 5, "white_box": {"model": str(backbone)}, "method": method})
    assert ended["state"] == "complete"
    longest = "select max(len(tokens)), max(list_max(tokens)) from responses where run_name = 'elsewhere'"
    most, highest = answer(whole, longest).iloc[0]
    assert (most <= 12, highest < 300) == (True, True)
    texts = "select md5(string_agg(text, '' order by text)) from responses where run_name = '{}'"
    tokens = "select md5(string_agg(tokens::varchar, '' order by text, step)) from responses where run_name = '{}'"
    order = "select string_agg(prompt_id, '' order by step) from rounds where round = 1 and run_name = '{}'"
    alike = [
        count(whole, one.format("elsewhere")) == count(whole, one.format("whole")) for one in (texts, tokens, order)
    ]
    assert alike == [True, False, False]


def test_what_the_source_recorded_cannot_be_changed_after_the_fact(whole: Path) -> None:
    with pytest.raises(UsageError, match=r"method\.candidates: 3 -> 4"):
        refold(source="whole", run="never", overrides={"method": {"candidates": 4}})


def test_an_unfinished_run_is_not_refolded(whole: Path) -> None:
    prepare(profile="laptop", overrides=merge(SMALL, {"seed": 9}), run="only-begun")
    with pytest.raises(UsageError, match="paused at step 0 of 12"):
        refold(source="only-begun", run="never")
