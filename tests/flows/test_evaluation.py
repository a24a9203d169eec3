"""The evaluation alone: several systems, a judge, nothing done twice, and only what is missing done again."""

from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from prefect.artifacts import Artifact

from cli.main import main
from cyclealign.compared_systems import ComparedSystem
from cyclealign.errors import ModelError, RunUnknown, UsageError
from cyclealign.profiles import merge
from flows.evaluation import evaluate
from flows.train import train
from storage.asking import answer
from storage.ledger import Ledger
from tests.black_box.model_server import ModelServer
from tests.flows.conftest import SMALL
from tests.serving import serving
from tests.tasks.asked import longer_wins

OTHER = merge(SMALL, {"seed": 1})
SYSTEMS = [ComparedSystem(label="Other seed", run="other-seed"), ComparedSystem(label="Backbone", model="world")]
COUNTS = {
    "generations": "select count(*) from generations",
    "last generation": "select max(created_at) from generations",
    "rewards": "select count(*) from reward_scores",
    "last reward": "select max(scored_at) from reward_scores",
    "verdicts": "select count(*) from comparisons",
    "last verdict": "select max(compared_at) from comparisons",
    "attempts": "select count(*) from api_attempts",
}


@pytest.fixture(scope="module")
def other_seed(world_home: Path, trained: dict[str, Any]) -> None:
    """Another finished run in the same home."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CYCLEALIGN_HOME", str(world_home))
        train(profile="laptop", overrides=OTHER, run="other-seed")


@pytest.fixture(scope="module")
def compared(world_home: Path, other_seed: None) -> None:
    """All systems are evaluated and compared."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CYCLEALIGN_HOME", str(world_home))
        evaluate(run="whole", systems=SYSTEMS, judge=True)


def counts(home: Path) -> dict[str, Any]:
    return {name: answer(home, question)[0].iloc[0, 0] for name, question in COUNTS.items()}


def forget(home: Path, statement: str) -> None:
    Ledger(home).close()
    with duckdb.connect(str(home / "ledger.duckdb")) as connection:
        connection.execute(statement)


def test_systems_are_evaluated_beside_the_run_and_compared_with_it(whole: Path, other_seed: None) -> None:
    evaluate(run="whole", systems=SYSTEMS, judge=True)
    roles, _ = answer(whole, "select role from run_systems where run_name = 'whole' order by role")
    assert list(roles["role"]) == ["Backbone", "Other seed", "after", "before"]
    pairs, _ = answer(
        whole,
        "select generation_id from comparison_outcomes join generations using (generation_id)"
        " join run_systems using (system_id) where run_name = 'whole' and role = 'after'",
    )
    assert len(pairs) == 2 * 8  # the backbone is the untrained model: two others, eight prompts
    shown = [Artifact.get(key) for key in ("table-1", "table-2", "table-5", "figure-4")]
    assert all(one is not None and one.data for one in shown)
    assert shown[1] is not None
    assert "no witness of its own" in str(shown[1].description)


def test_the_untrained_model_is_the_same_system_under_every_name(whole: Path, compared: None) -> None:
    found, _ = answer(
        whole,
        "select count(distinct system_id) from run_systems where run_name = 'whole' and role in ('before', 'Backbone')",
    )
    assert found.iloc[0, 0] == 1


def test_a_second_evaluation_repeats_nothing(whole: Path, compared: None) -> None:
    before = counts(whole)
    evaluate(run="whole", systems=SYSTEMS, judge=True)
    assert counts(whole) == before


def test_only_the_scores_that_were_lost_are_made_again(whole: Path, compared: None) -> None:
    before = counts(whole)
    lost = "select generation_id from generations join run_systems using (system_id) where role = 'Other seed'"
    forget(whole, f"delete from reward_scores where generation_id in ({lost})")
    fewer = counts(whole)["rewards"]
    evaluate(run="whole", systems=SYSTEMS, judge=True)
    after = counts(whole)
    assert fewer == before["rewards"] - 8 * 3  # eight prompts, three reward models
    assert after["rewards"] == before["rewards"]
    assert {**after, "last reward": None} == {**before, "last reward": None}
    again, _ = answer(whole, f"select count(*) from reward_scores where scored_at > '{before['last reward']}'")
    assert again.iloc[0, 0] == 8 * 3


def test_lost_verdicts_are_read_from_the_recorded_answers(whole: Path, compared: None) -> None:
    before = counts(whole)
    forget(whole, "delete from comparisons")
    evaluate(run="whole", systems=SYSTEMS, judge=True)
    assert counts(whole)["verdicts"] > 0
    assert counts(whole)["attempts"] == before["attempts"]


def test_other_generation_settings_are_other_generations(whole: Path, compared: None) -> None:
    before = counts(whole)
    evaluate(run="whole", overrides={"evaluation": {"sampling": {"temperature": 0}}})
    assert counts(whole)["generations"] == before["generations"] + 2 * 8


def test_overrides_that_would_make_another_run_are_refused(whole: Path) -> None:
    with pytest.raises(UsageError, match="change the run itself"):
        evaluate(run="whole", overrides={"method": {"rounds": 7}})


def test_wrong_systems_are_known_before_anything_is_computed(whole: Path, other_seed: None) -> None:
    before = counts(whole)
    with pytest.raises(RunUnknown, match="nobody"):
        evaluate(run="whole", systems=[ComparedSystem(label="x", run="nobody")])
    with pytest.raises(UsageError, match="label"):
        evaluate(run="whole", systems=[SYSTEMS[0], SYSTEMS[0]])
    other_generations = {"evaluation": {"sampling": {"temperature": 0.3}}}
    with pytest.raises(ModelError, match=r"System 'x': No folder nowhere"):
        evaluate(run="whole", systems=[ComparedSystem(label="x", model="./nowhere")], overrides=other_generations)
    nowhere = {"reward_model": "classifier", "reward_model_name": "./nowhere"}
    with pytest.raises(ModelError, match=r"\./nowhere"):
        evaluate(run="whole", overrides={"evaluation": {**nowhere, "sampling": {"temperature": 0.3}}})
    assert counts(whole) == before


def endpoint(server: ModelServer) -> dict[str, Any]:
    return {"base_url": server.url, "model": "paid-model", "price": {"input": 1.0, "output": 2.0}, "attempts": 2}


def test_a_chat_model_is_a_system_that_is_paid_once(whole: Path) -> None:
    with serving(ModelServer(lambda _body: "Try this: write a list.")) as server:
        chat = ComparedSystem.model_validate({"label": "Chat", "api": endpoint(server)})
        evaluate(run="whole", systems=[chat])
        evaluate(run="whole", systems=[chat])
        assert len(server.requests) == 8
    scored, _ = answer(
        whole, "select count(*) from evaluated_generations join reward_scores using (generation_id) where role = 'Chat'"
    )
    assert scored.iloc[0, 0] == 8 * 3


def test_a_paid_judge_is_asked_through_one_batch_and_once(whole: Path, other_seed: None) -> None:
    with serving(ModelServer(longer_wins)) as server:
        changed = {"judge": {"endpoint": endpoint(server)}, "batches": {"enabled": True, "poll_s": 0.05}}
        for _ in range(2):
            evaluate(run="whole", systems=SYSTEMS, judge=True, overrides={"evaluation": changed})
        assert (len(server.batches), server.requests) == (1, [])
    judged, _ = answer(whole, "select distinct judge from comparisons where judge like 'paid-model%'")
    assert len(judged) == 1


def test_the_command_line_prints_the_systems_and_what_the_judge_is(whole: Path, other_seed: None) -> None:
    command = ["evaluate", "whole", "--system", "Other seed=run:other-seed", "--judge"]
    result = CliRunner().invoke(main, [*command, "--set", "evaluation.judge.order=shuffled"])
    assert result.exit_code == 0, result.output
    for words in ("Other seed", "% inconsistent", "% to the first shown", "no witness of its own"):
        assert words in result.output


@pytest.mark.parametrize("system", ["x=run:nobody", "x", "x=api:gpt-4.1-mini@not-a-url"])
def test_a_wrong_system_is_wrong_use(whole: Path, system: str) -> None:
    result = CliRunner().invoke(main, ["evaluate", "whole", "--system", system])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_a_quantised_run_is_a_system_of_its_own_and_is_evaluated_again_alike(whole: Path) -> None:
    train(profile="laptop", overrides=merge(SMALL, {"white_box": {"quantization": "nf4"}}), run="quantised")
    systems, _ = answer(
        whole,
        "select distinct system_id from run_systems"
        " where run_name in ('whole', 'quantised') and role in ('before', 'after')",
    )
    assert len(systems) == 4  # each before and after
    texts = (
        "select prompt_id, role, text from generations join run_systems using (system_id)"
        " where run_name = 'quantised' order by all"
    )
    before, _ = answer(whole, texts)
    assert len(before) == 2 * 8
    forget(
        whole,
        "delete from generations where system_id in (select system_id from run_systems where run_name = 'quantised')",
    )
    evaluate(run="quantised")
    again, _ = answer(whole, texts)
    assert again.equals(before)
