"""The whole job through the real flow: from settings to adapter, ledger and report; interrupted, it ends the same."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort

from cyclealign.errors import EndpointRefused, ModelError, SettingsChanged
from cyclealign.profiles import merge
from cyclealign.white_box.white_box import WhiteBox
from flows.evaluation import evaluate
from flows.prepare import prepare
from flows.train import train
from storage import imports, runs
from storage.asking import answer
from storage.ledger import Ledger
from tasks.cycle.progress import LOGGER
from tasks.models import reward_models
from tests.flows.children import TINY, level_of_progress
from tests.flows.conftest import SMALL
from tests.flows.ended_runs import EndedRun, differing_rows
from tests.flows.judge_server import JudgeServer
from tests.flows.remains import forget
from tests.forks import FORKS

KEY = "sk-canary-5d1c0d9e7b"
FEW = merge(SMALL, {"data": {"prompts": 8}, "evaluation": {"prompts_per_subset": 1}})


@pytest.fixture(scope="module")
def judge(world_home: Path) -> Any:
    """The offline judge over HTTP, which can be told to refuse keys after a number of answers."""
    with JudgeServer(world_home, FEW) as server:
        yield server


@pytest.fixture(scope="module")
def bought(world_home: Path, judge: JudgeServer) -> dict[str, Any]:
    """A run whose rankings came from there, for a key."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CYCLEALIGN_HOME", str(world_home))
        environment.setenv("OPENAI_API_KEY", KEY)
        return train(profile="laptop", overrides=over_http(judge), run="http-whole")


def over_http(judge: JudgeServer, **black_box: Any) -> dict[str, Any]:
    price = {"input": 1.0, "output": 2.0}
    settings = {"endpoint": "api", "base_url": judge.url, "price": price, "attempts": 2, **black_box}
    return merge(FEW, {"black_box": settings})


def count(home: Path, question: str) -> Any:
    return answer(home, question).iloc[0, 0]


def test_a_run_ends_with_adapter_ledger_and_report(home: Path, trained: dict[str, Any]) -> None:
    assert trained["state"] == "complete"
    assert PeftConfig.from_pretrained(str(home / "whole" / "adapter")).r == 8
    figures = json.loads((home / "whole" / "report" / "figures.json").read_text())
    assert figures["run"]["name"] == "whole"
    assert "<script" not in (home / "whole" / "report" / "report.html").read_text()
    assert count(home, "select count(*) from rounds where run_name = 'whole' and state = 'trained'") > 12
    assert count(home, "select count(distinct prompt_id) from generations") == 8


def test_a_complete_run_whose_files_are_gone_is_made_again_from_the_ledger_without_a_key(
    home: Path, judge: JudgeServer, bought: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(home / "http-whole")
    asked = judge.answered
    again = train(profile="laptop", overrides=over_http(judge), run="http-whole")
    assert "its adapter is gone" in capsys.readouterr().err
    assert again["weights_sha256"] == bought["weights_sha256"]
    assert (home / "http-whole" / "adapter" / "adapter_model.safetensors").is_file()
    assert judge.answered == asked


def test_a_run_of_another_home_is_left_alone_and_one_of_a_home_that_was_moved_found(
    home: Path,
    trained: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / "other"))
    shutil.copytree(home, tmp_path / "moved", ignore=shutil.ignore_patterns("prefect"))
    imports.merge(Ledger(tmp_path / "other"), tmp_path / "moved" / "ledger.duckdb")
    adapter, aside = home / "whole" / "adapter", tmp_path / "aside"
    calls = count(home, "select count(*) from api_attempts")
    adapter.rename(aside)
    try:
        for other, said in (("other", "was trained in another home"), ("moved", "nothing to do. Its report")):
            monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path / other))
            found = train(profile="laptop", overrides=SMALL, run="whole")
            assert (found["state"], found["weights_sha256"]) == ("complete", trained["weights_sha256"])
            assert said in capsys.readouterr().err
            assert count(tmp_path / other, "select count(*) from api_attempts") == calls
    finally:
        aside.rename(adapter)


def test_a_run_may_leave_its_candidates_unscored_until_they_are_wanted(home: Path) -> None:
    def page(scored: bool) -> str:
        changes = {"seed": 4, "evaluation": {"score_candidates": scored}}
        train(profile="laptop", overrides=merge(TINY, changes), run="waiting")
        return (home / "waiting" / "report" / "report.md").read_text()

    def rewards() -> Any:
        return count(home, "select count(*) from response_rewards where run_name = 'waiting'")

    without = page(scored=False)
    assert rewards() == 0
    assert "## Reward before and after" in without
    assert "Black box accuracy" not in without
    assert "Candidates were left without rewards" in without
    later = page(scored=True)
    assert rewards() == count(
        home,
        "select count(*) * (select count(distinct reward_model) from response_rewards) from responses "
        "where run_name = 'waiting' and kind = 'candidate'",
    )
    assert "Black box accuracy" in later
    assert "Candidates were left without rewards" not in later


def test_another_name_with_the_same_settings_buys_nothing_ends_the_same_and_frees_the_white_box_before_it_scores(
    whole: Path, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, held = count(whole, "select count(*) from api_attempts"), white_boxes_held(monkeypatch)
    later = merge(SMALL, {"evaluation": {"score_during_training": False}})
    twin = train(profile="laptop", overrides=later, run="twin")
    assert twin["weights_sha256"] == trained["weights_sha256"]
    assert count(whole, "select count(*) from api_attempts") == calls
    assert held == [0]
    rewards = "select step, round, slot, reward_model, reward from response_rewards where run_name = '{}' order by all"
    first, second = (answer(whole, rewards.format(run)) for run in ("whole", "twin"))
    assert len(first) > 3 * 3 * 12
    assert first.equals(second)


def white_boxes_held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets how many parameters trained white boxes hold when the reward models are loaded at the end."""
    trained: list[WhiteBox] = []  # keeps them, as Prefect and DeepSpeed do
    held: list[int] = []
    under_new_adapter = WhiteBox.under_new_adapter

    def seen(*arguments: Any) -> WhiteBox:
        trained.append(under_new_adapter(*arguments))
        return trained[-1]

    def count(*arguments: Any) -> Any:
        held.extend(sum(one.numel() for one in white_box.model.parameters()) for white_box in trained)
        return reward_models(*arguments)

    monkeypatch.setattr(WhiteBox, "under_new_adapter", seen)
    monkeypatch.setattr("flows.train.reward_models", count)
    return held


def test_another_seed_ends_differently_and_its_run_page_shows_every_turn_with_agreement_reward_and_spend(
    home: Path, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FORKS.Pool(1) as fresh:  # a test of the command line may have silenced it here
        monkeypatch.setattr(LOGGER, "level", fresh.apply(level_of_progress))
    LOGGER.manager._clear_cache()  # type: ignore[attr-defined]
    shown = train(profile="laptop", overrides=merge(SMALL, {"seed": 3}), run="on-the-page")
    assert shown["weights_sha256"] != trained["weights_sha256"]
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": ["cycles"]}}}).json()
        (text,) = [one["description"] for one in found if one["description"].startswith("on-the-page: ")]
        flow_runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=5)
        (flow_run,) = [one for one in flow_runs if one.name == "train on-the-page"]
        wanted, deadline = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id])), time.monotonic() + 20
        lines: list[str] = []
        while not any("step 12/12" in line for line in lines) and time.monotonic() < deadline:
            lines = [one.message for one in client.read_logs(wanted) if one.name == "cyclealign"]
    assert any(line.startswith("round wave=0 step ") for line in lines)
    reward = count(
        home,
        "select avg(reward) from response_rewards where run_name = 'on-the-page' and step >= 8 "
        "and starts_with(reward_model, 'world:reward-model')",  # the last of three segments
    )
    for part in ("step 12/12", "agreement 0.", "quality 0.", f"reward {reward:+.2f}", "$0.00"):
        assert part in text


def test_a_reward_model_that_is_not_there_is_missed_before_anything_is_asked(home: Path) -> None:
    nowhere = {"reward_model": "classifier", "reward_model_name": "./nowhere", "score_during_training": False}
    with pytest.raises(ModelError, match=r"\./nowhere"):
        train(profile="laptop", overrides=merge(SMALL, {"seed": 7, "evaluation": nowhere}), run="unscored")
    assert count(home, "select count(*) from rounds where run_name = 'unscored'") == 0


def test_a_prepared_run_may_still_get_other_settings_and_a_complete_one_stays_complete(whole: Path) -> None:
    prepare(profile="laptop", overrides=merge(SMALL, {"seed": 5}), run="prepared")
    prepare(profile="laptop", overrides=merge(SMALL, {"seed": 6}), run="prepared")
    prepare(profile="laptop", overrides=SMALL, run="whole")
    states = {one.name: one.state for one in runs.status(Ledger(whole))}
    assert (states["prepared"], states["whole"]) == ("paused", "complete")


def test_the_same_name_with_other_settings_is_refused_with_the_differences(whole: Path) -> None:
    with pytest.raises(SettingsChanged, match=r"method\.rounds: 2 -> 3"):
        train(profile="laptop", overrides=merge(SMALL, {"method": {"rounds": 3}}), run="whole")


def test_a_run_that_is_refused_again_and_again_pauses_and_continues_to_the_same_weights(
    home: Path, judge: JudgeServer, bought: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 0, 3 and 7 answers in all: before anything, and within its first waves."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = over_http(judge)
    mine = "where starts_with(run_name, 'http-')"
    forget(home, f"delete from outcomes {mine}", f"delete from attempts {mine}")  # as if none had been bought yet
    before = judge.answered
    for answers in (0, 3, 7):
        judge.refuse_after(answers - (judge.answered - before))
        with pytest.raises(EndpointRefused, match="refuses the key"):
            train(profile="laptop", overrides=settings, run="http-refused")
        assert judge.answered - before == answers
        assert runs.status(Ledger(home), "http-refused")[0].state == "paused"
    judge.accept()
    resumed = train(profile="laptop", overrides=settings, run="http-refused")
    assert resumed["weights_sha256"] == bought["weights_sha256"]
    assert judge.answered - before == count(home, "select sum(asks) from rounds where run_name = 'http-refused'")
    assert differing_rows(EndedRun(home, "http-whole"), EndedRun(home, "http-refused")) == {}


def test_the_key_is_nowhere_on_disk(home: Path, bought: dict[str, Any]) -> None:
    assert [path for path in home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


def test_the_evaluation_alone_repeats_nothing(whole: Path) -> None:
    before = (count(whole, "select count(*) from generations"), count(whole, "select max(created_at) from generations"))
    evaluate(run="whole")
    assert before == (
        count(whole, "select count(*) from generations"),
        count(whole, "select max(created_at) from generations"),
    )


def test_prepare_counts_what_it_read_and_kept(home: Path) -> None:
    rows = prepare(profile="laptop", overrides=SMALL, run="only-prepared")
    assert any("duplicate_prompt" in row["dropped"] for row in rows)
    assert {row["subset"] for row in rows} == {
        "harmless-base",
        "helpful-base",
        "helpful-online",
        "helpful-rejection-sampled",
    }
    assert all(row["pairs_kept"] <= row["rows_read"] for row in rows)
