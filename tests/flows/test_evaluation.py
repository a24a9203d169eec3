"""The evaluation alone: several systems, a judge, nothing done twice, and only what is missing done again."""

from pathlib import Path
from typing import Any

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
from tests.black_box.model_server import ModelServer
from tests.flows.conftest import SMALL
from tests.flows.remains import forget
from tests.serving import serving
from tests.tasks.asked import longer_wins

OTHER = merge(SMALL, {"seed": 1, "data": {"prompts": 4}})
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
def compared(world_home: Path, trained: dict[str, Any]) -> None:
    """Another finished run in the same home; all systems are evaluated and compared."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CYCLEALIGN_HOME", str(world_home))
        train(profile="laptop", overrides=OTHER, run="other-seed")
        evaluate(run="whole", systems=SYSTEMS, judge=True)


def counts(home: Path) -> dict[str, Any]:
    return {name: answer(home, question).iloc[0, 0] for name, question in COUNTS.items()}


def test_systems_are_evaluated_beside_the_run_and_compared_with_it(whole: Path, compared: None) -> None:
    roles = answer(whole, "select role, system_id from run_systems where run_name = 'whole' order by role")
    assert list(roles["role"]) == ["Backbone", "Other seed", "after", "before"]
    assert roles["system_id"].nunique() == 3  # the backbone is the untrained model
    pairs = answer(
        whole,
        "select generation_id from comparison_outcomes join generations using (generation_id)"
        " join run_systems using (system_id) where run_name = 'whole' and role = 'after'",
    )
    assert len(pairs) == 2 * 8  # two others, eight prompts
    shown = [Artifact.get(key) for key in ("table-1", "table-2", "table-5", "figure-4")]
    assert all(one is not None and one.data for one in shown)
    assert shown[1] is not None
    assert "no witness of its own" in str(shown[1].data)
    assert "data:image/png;base64," in str(shown[1].data)


def test_a_second_evaluation_makes_lost_scores_alone_again_reads_lost_verdicts_from_the_recorded_answers_and_prints(
    whole: Path, compared: None
) -> None:
    before = counts(whole)
    lost = "select generation_id from generations join run_systems using (system_id) where role = 'Other seed'"
    forget(whole, f"delete from reward_scores where generation_id in ({lost})", "delete from compared_pairs")
    assert counts(whole)["rewards"] == before["rewards"] - 8 * 3  # eight prompts, three reward models
    systems = ["--system", "Other seed=run:other-seed", "--system", "Backbone=model:world"]
    result = CliRunner().invoke(main, ["evaluate", "whole", *systems, "--judge"])
    assert result.exit_code == 0, result.output
    for words in ("Other seed", "inconsistent", "% to the first shown", "no witness of its own"):
        assert words in result.output
    after = counts(whole)
    assert {**after, "last reward": None, "last verdict": None} == {**before, "last reward": None, "last verdict": None}
    again = answer(whole, f"select count(*) from reward_scores where scored_at > '{before['last reward']}'")
    assert again.iloc[0, 0] == 8 * 3


def test_what_is_wrong_is_known_before_anything_is_computed(whole: Path, compared: None) -> None:
    before = counts(whole)
    with pytest.raises(UsageError, match="change the run itself"):
        evaluate(run="whole", overrides={"method": {"rounds": 7}})
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
    for system in ("x=run:nobody", "x", "x=api:gpt-4.1-mini@not-a-url"):
        result = CliRunner().invoke(main, ["evaluate", "whole", "--system", system])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
    assert counts(whole) == before


def endpoint(server: ModelServer) -> dict[str, Any]:
    return {"base_url": server.url, "model": "paid-model", "price": {"input": 1.0, "output": 2.0}, "attempts": 2}


def test_a_chat_model_and_a_judge_are_paid_once_the_judge_through_one_batch(whole: Path, compared: None) -> None:
    before, greedy = counts(whole)["generations"], {"sampling": {"temperature": 0}}
    with serving(ModelServer(lambda _body: "Try this: write a list.")) as server:
        chat = ComparedSystem.model_validate({"label": "Chat", "api": endpoint(server)})
        evaluate(run="whole", systems=[chat], overrides={"evaluation": greedy})
        assert counts(whole)["generations"] == before + 3 * 8  # other settings: also before and after
        with serving(ModelServer(longer_wins)) as judging:
            changed = {"judge": {"endpoint": endpoint(judging)}, "batches": {"enabled": True, "poll_s": 0.05}}
            for _ in range(2):
                evaluate(run="whole", systems=[chat], judge=True, overrides={"evaluation": greedy | changed})
            assert (len(judging.batches), len(judging.requests)) == (1, 1)  # the probe is sent alone
        assert (len(server.batches), len(server.requests)) == (0, 8)
    scored = answer(
        whole, "select count(*) from evaluated_generations join reward_scores using (generation_id) where role = 'Chat'"
    )
    assert scored.iloc[0, 0] == 8 * 3
    judged = answer(whole, "select distinct judge from comparisons where judge like 'paid-model%'")
    assert len(judged) == 1
