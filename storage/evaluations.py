"""Evaluations: systems, what they generated, and the rewards of it; whatever is there is never made again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from storage.ledger import Ledger


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


@dataclass(frozen=True, slots=True)
class RunSystem:
    """The system in one role of a run's evaluation."""

    role: str
    """`before`, `after`, or a label."""
    system_id: str
    generation_digest: str


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
    def generation_id(self) -> str:
        """Digest of system, prompt and settings."""
        return generation_id(self.system_id, self.prompt_id, generation_digest(self.settings))


@dataclass(frozen=True, slots=True)
class PreferenceAccuracy:
    """How often a fitted preference model prefers the chosen reply."""

    subset: str
    pairs: int
    accuracy: float


def generation_digest(settings: Mapping[str, Any]) -> str:
    """Identity of generation settings."""
    return _digest(dict(settings))


def generation_id(system_id: str, prompt_id: str, settings_digest: str) -> str:
    """Identity of one system's response to one prompt under generation settings."""
    return _digest([system_id, prompt_id, settings_digest])


def put_system(ledger: Ledger, system: System) -> str:
    """Keep a system; returns its id."""
    identity = json.dumps(dict(system.identity), sort_keys=True)
    with ledger.session() as session:
        session.run("evaluations/put_system", system_id=system.system_id, label=system.label, identity=identity)
    return system.system_id


def put_run_system(ledger: Ledger, run_name: str, run_system: RunSystem) -> list[str]:
    """Note which system stands in a role of a run's evaluation.

    Returns:
        Roles that stand in it no more, because their responses were generated under other settings.
    """
    with ledger.session() as session, session.transaction():
        session.run("evaluations/put_run_system", run_name=run_name, **asdict(run_system))
        digest = run_system.generation_digest
        others = session.rows("evaluations/drop_other_generations", run_name=run_name, generation_digest=digest)
    return sorted(row["role"] for row in others)


def run_systems(ledger: Ledger, run_name: str) -> dict[str, RunSystem]:
    """The systems that a run's evaluation compares, by role."""
    with ledger.session() as session:
        rows = session.rows("evaluations/run_systems", run_name=run_name)
    return {row["role"]: RunSystem(**row) for row in rows}


def generations(ledger: Ledger, generation_ids: Sequence[str]) -> dict[str, Generation]:
    """Those of the generations that are there, by id."""
    with ledger.session() as session:
        rows = session.rows("evaluations/generations", generation_ids=list(generation_ids))
    return {row.pop("generation_id"): _generation(row) for row in rows}


def put_generations(ledger: Ledger, found: Sequence[Generation]) -> None:
    """Keep generations; those that are there stay as they are."""
    if not found:
        return
    with ledger.session() as session:
        session.run("evaluations/put_generations", rows=[_generation_row(one) for one in found])


def reward_scores(ledger: Ledger, reward_model: str, generation_ids: Sequence[str]) -> dict[str, float]:
    """Those of the rewards that are there, by generation id; what is missing is left out."""
    with ledger.session() as session:
        rows = session.rows("evaluations/reward_scores", reward_model=reward_model, generation_ids=list(generation_ids))
    return {row["generation_id"]: row["reward"] for row in rows}


def put_reward_scores(ledger: Ledger, reward_model: str, rewards: Mapping[str, float]) -> None:
    """Keep rewards by generation id; those that are there stay as they are."""
    if not rewards:
        return
    rows = [{"generation_id": key, "reward": reward} for key, reward in rewards.items()]
    with ledger.session() as session:
        session.run("evaluations/put_reward_scores", reward_model=reward_model, rows=rows)


def put_preference_accuracies(ledger: Ledger, reward_model: str, accuracies: Sequence[PreferenceAccuracy]) -> None:
    """Keep the held-out accuracies of a fitted preference model."""
    rows = [asdict(one) for one in accuracies]
    with ledger.session() as session:
        session.run("evaluations/put_preference_accuracies", reward_model=reward_model, rows=rows)


def put_preference_correlation(
    ledger: Ledger, reward_model: str, other_model: str, pairs: int, correlation: float
) -> None:
    """Keep how alike the evaluation's preference model and the judge's are on held-out pairs."""
    with ledger.session() as session:
        session.run(
            "evaluations/put_preference_correlation",
            reward_model=reward_model,
            other_model=other_model,
            pairs=pairs,
            correlation=correlation,
        )


def preference_accuracies(ledger: Ledger, reward_model: str) -> list[PreferenceAccuracy]:
    """The held-out accuracies of a fitted preference model, by subset."""
    with ledger.session() as session:
        rows = session.rows("evaluations/preference_accuracies", reward_model=reward_model)
    return [PreferenceAccuracy(**row) for row in rows]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _generation_row(one: Generation) -> dict[str, Any]:
    settings = dict(one.settings)
    return {
        **asdict(one),
        "settings": json.dumps(settings, sort_keys=True),
        "generation_id": one.generation_id,
        "generation_digest": generation_digest(settings),
    }


def _generation(row: dict[str, Any]) -> Generation:
    del row["generation_digest"]
    return Generation(**{**row, "settings": json.loads(row["settings"])})
