"""A refold trains from what another run recorded: without sampling, without a call, and with the same fold."""

from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import SettingsChanged, UsageError
from cyclealign.profiles import merge
from flows.refold import refold
from storage import runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.flows.conftest import SMALL
from tests.tiny_llama import save_tiny_llama


@pytest.fixture
def source(trained: dict[str, Any]) -> str:
    """A finished run."""
    return str(trained["name"])


def count(home: Path, question: str) -> Any:
    return answer(home, question)[0].iloc[0, 0]


def test_a_refold_with_unchanged_settings_ends_with_the_weights_of_its_source(home: Path, source: str) -> None:
    generations = count(home, "select count(*) from generations")
    again = refold(source=source, run="again")
    assert again["state"] == "complete"
    assert again["weights_sha256"] == runs.get(Ledger(home), source).weights_sha256
    assert count(home, "select count(*) from generations") == generations
    assert count(home, "select count(*) from api_attempts where run_name = 'again'") == 0
    row = runs.get(Ledger(home), "again")
    assert (row.kind, row.source_run, row.settings_digest) == (
        "refold",
        source,
        runs.get(Ledger(home), source).settings_digest,
    )
    assert "again" in (home / "again" / "report" / "report.md").read_text()


def test_a_refold_that_was_killed_continues_to_the_same_weights(home: Path, source: str) -> None:
    whole = refold(source=source, run="once", overrides={"method": {"objective": "rrhf"}})
    ledger = Ledger(home)
    ledger.close()
    forget_the_end(home, "once")
    continued = refold(source=source, run="once", overrides={"method": {"objective": "rrhf"}})
    assert continued["weights_sha256"] == whole["weights_sha256"]
    assert continued["weights_sha256"] != runs.get(Ledger(home), source).weights_sha256


def forget_the_end(home: Path, name: str) -> None:
    """As if the process had died before the last checkpoint was put in place."""
    import shutil

    import duckdb

    last = sorted((home / name / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    with duckdb.connect(str(home / "ledger.duckdb")) as connection:
        connection.execute("update runs set state = 'running' where run_name = ?", [name])


def test_another_order_and_another_backbone_learn_from_the_same_texts(home: Path, source: str, tmp_path: Path) -> None:
    backbone = save_tiny_llama(tmp_path / "another")  # with a tokenizer of its own
    overrides = {"seed": 5, "white_box": {"model": str(backbone)}, "method": {"rewrite": "off"}}
    ended = refold(source=source, run="elsewhere", overrides=overrides)
    assert ended["state"] == "complete"
    texts = "select md5(string_agg(text, '' order by text)) from responses where run_name = '{}'"
    assert count(home, texts.format("elsewhere")) == count(home, texts.format(source))
    longest = "select max(len(tokens)), max(list_max(tokens)) from responses where run_name = 'elsewhere'"
    most, highest = answer(home, longest)[0].iloc[0]
    assert (most <= 12, highest < 300) == (True, True)
    tokens = "select md5(string_agg(tokens::varchar, '' order by text, step)) from responses where run_name = '{}'"
    assert count(home, tokens.format("elsewhere")) != count(home, tokens.format(source))
    prompts = "select string_agg(prompt_id, '' order by step) from rounds where round = 1 and run_name = '{}'"
    assert count(home, prompts.format("elsewhere")) != count(home, prompts.format(source))


def test_what_the_source_recorded_cannot_be_changed_after_the_fact(home: Path, source: str) -> None:
    with pytest.raises(UsageError, match=r"method\.candidates: 3 -> 4"):
        refold(source=source, run="never", overrides={"method": {"candidates": 4}})


def test_a_refold_is_not_continued_from_another_source(home: Path, source: str) -> None:
    refold(source=source, run="again")
    with pytest.raises(SettingsChanged, match="source_run: whole -> again"):
        refold(source="again", run="again")


def test_an_unfinished_run_is_not_refolded(home: Path, source: str) -> None:
    from flows.prepare import prepare

    prepare(profile="laptop", overrides=merge(SMALL, {"seed": 9}), run="only-begun")
    with pytest.raises(UsageError, match="paused at step 0 of 12"):
        refold(source="only-begun", run="never")
