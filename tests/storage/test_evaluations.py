"""What an evaluation made is found again, and only what is missing is made."""

from storage import evaluations
from storage.evaluations import Generation, RunSystem, System
from storage.ledger import Ledger

SYSTEM = System("after", {"weights": "sha", "model": "m"})


def generation(prompt_id: str, text: str = "a response") -> Generation:
    return Generation(SYSTEM.system_id, prompt_id, {"temperature": 0.8, "seed": 1}, text, 3, True, 0.0, 0.5)


def test_a_system_is_its_identity_whatever_its_label_and_order_of_keys(ledger: Ledger) -> None:
    assert System("other label", {"model": "m", "weights": "sha"}).system_id == SYSTEM.system_id
    assert System("after", {"weights": "other", "model": "m"}).system_id != SYSTEM.system_id
    ledger.record(SYSTEM)
    ledger.record(System("another label", SYSTEM.identity))
    assert ledger.query("select label from systems")["label"].tolist() == ["another label"]


def test_the_roles_of_a_run_are_kept_and_can_be_changed(ledger: Ledger) -> None:
    evaluations.put_run_system(ledger, RunSystem("a-run", "before", "s0", "g"))
    evaluations.put_run_system(ledger, RunSystem("a-run", "after", "s1", "g"))
    evaluations.put_run_system(ledger, RunSystem("a-run", "after", "s2", "g"))
    assert evaluations.run_systems(ledger, "a-run") == {
        "after": RunSystem("a-run", "after", "s2", "g"),
        "before": RunSystem("a-run", "before", "s0", "g"),
    }


def test_an_evaluation_holds_systems_under_the_same_generation_settings_alone(ledger: Ledger) -> None:
    for role in ("before", "after", "gpt"):
        assert evaluations.put_run_system(ledger, RunSystem("a-run", role, role, "greedy")) == []
    evaluations.put_run_system(ledger, RunSystem("another", "after", "s", "greedy"))
    assert evaluations.put_run_system(ledger, RunSystem("a-run", "after", "after", "warm")) == ["before", "gpt"]
    assert set(evaluations.run_systems(ledger, "a-run")) == {"after"}
    assert set(evaluations.run_systems(ledger, "another")) == {"after"}


def test_generations_are_found_by_id_and_never_overwritten(ledger: Ledger) -> None:
    one, two = generation("p1"), generation("p2")
    ledger.record(one)
    ledger.record(generation("p1", "another text"), two)
    ledger.record()
    wanted = [one.generation_id, two.generation_id, generation("p3").generation_id]
    assert evaluations.generations(ledger, wanted) == {one.generation_id: one, two.generation_id: two}


def test_rewards_are_found_per_model_and_never_overwritten(ledger: Ledger) -> None:
    evaluations.put_reward_scores(ledger, "model", {"g1": 0.5})
    evaluations.put_reward_scores(ledger, "model", {"g1": 9.0, "g2": -0.5})
    evaluations.put_reward_scores(ledger, "other", {})
    assert evaluations.reward_scores(ledger, "model", ["g1", "g2", "g3"]) == {"g1": 0.5, "g2": -0.5}
    assert evaluations.reward_scores(ledger, "other", ["g1"]) == {}
