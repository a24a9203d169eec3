"""Evaluations: systems, what they generated, and the rewards of it; whatever is there is never made again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclealign.records import PreferenceAccuracy, PreferenceCorrelation
from storage.facts import fact, from_json, value, values
from storage.ledger import Ledger


@fact("labelled_systems", "system_id")
@dataclass(frozen=True, slots=True)
class System:
    """A system under evaluation: a checkpoint, a backbone or an API model."""

    label: str
    identity: Mapping[str, Any]
    """Everything that decides what it generates: model, weights digest, prompt format."""

    @property
    def system_id(self) -> str:
        """Digest of the identity."""
        return _digest(dict(self.identity))


@fact("system_roles")
@dataclass(frozen=True, slots=True)
class RunSystem:
    """The system in one role of a run's evaluation."""

    run_name: str
    role: str
    """`before`, `after`, or a label."""
    system_id: str
    generation_digest: str


@fact("generations", "generation_digest", "generation_id")
@dataclass(frozen=True, slots=True)
class Generation:
    """One system's response to one prompt."""

    system_id: str
    prompt_id: str
    settings: Mapping[str, Any]
    """How it was drawn, the seed included."""
    text: str
    tokens: int | None
    """How many."""
    ended: bool
    repeated_4grams: float | None
    """Share of 4-grams of tokens that occurred before in the same response."""
    seconds: float | None

    @property
    def generation_digest(self) -> str:
        """Identity of the settings."""
        return generation_digest(self.settings)

    @property
    def generation_id(self) -> str:
        """Digest of system, prompt and settings."""
        return generation_id(self.system_id, self.prompt_id, self.generation_digest)


@fact("reward_scores")
@dataclass(frozen=True, slots=True)
class RewardScore:
    """The reward of one generation by one reward model."""

    generation_id: str
    reward_model: str
    reward: float


fact("preference_accuracies")(PreferenceAccuracy)
fact("preference_correlations")(PreferenceCorrelation)


def record_preference(
    ledger: Ledger, accuracies: Sequence[PreferenceAccuracy], correlation: PreferenceCorrelation
) -> None:
    """Record how two fitted preference models did on held-out pairs."""
    ledger.record(*accuracies, correlation)


def generation_digest(settings: Mapping[str, Any]) -> str:
    """Identity of generation settings."""
    return _digest(dict(settings))


def generation_id(system_id: str, prompt_id: str, settings_digest: str) -> str:
    """Identity of one system's response to one prompt under generation settings."""
    return _digest([system_id, prompt_id, settings_digest])


def put_run_system(ledger: Ledger, run_system: RunSystem) -> list[str]:
    """Note which system stands in a role of a run's evaluation.

    Returns:
        Roles that stand in it no more, because their responses were generated under other settings.
    """
    before = run_systems(ledger, run_system.run_name)
    if before.get(run_system.role) == run_system:
        return []
    ledger.record(run_system)
    digest = run_system.generation_digest
    return sorted(
        one.role for one in before.values() if one.generation_digest != digest and one.role != run_system.role
    )


def run_systems(ledger: Ledger, run_name: str) -> dict[str, RunSystem]:
    """The systems that a run's evaluation compares, by role."""
    with ledger.session() as session:
        rows = session.rows("of_run", this_table="run_systems", run_name=run_name)
    return {one.role: one for one in sorted(values(RunSystem, rows), key=lambda one: one.role)}


def generations(ledger: Ledger, generation_ids: Sequence[str]) -> dict[str, Generation]:
    """Those of the generations that are there, by id."""
    with ledger.session() as session:
        rows = session.rows("with_ids", this_table="generations", this_id="generation_id", ids=list(generation_ids))
    found = [value(Generation, {**row, "settings": from_json(row["settings"])}) for row in rows]
    return {one.generation_id: one for one in found}


def reward_scores(ledger: Ledger, reward_model: str, generation_ids: Sequence[str]) -> dict[str, float]:
    """Those of the rewards that are there, by generation id; what is missing is left out."""
    with ledger.session() as session:
        rows = session.rows("with_ids", this_table="reward_scores", this_id="generation_id", ids=list(generation_ids))
    return {row["generation_id"]: row["reward"] for row in rows if row["reward_model"] == reward_model}


def put_reward_scores(ledger: Ledger, reward_model: str, rewards: Mapping[str, float]) -> None:
    """Keep rewards by generation id; those that are there stay as they are."""
    ledger.record(*(RewardScore(key, reward_model, reward) for key, reward in rewards.items()))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
