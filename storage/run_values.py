"""The values that runs are registered with, found as, and tell where they stand."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from storage.processes import ProcessIdentity

State = Literal["running", "interrupted", "paused", "complete", "failed"]
Kind = Literal["cycle", "refold", "baseline"]
Baseline = Literal["sft", "rrhf", "pro", "dpo", "rl"]


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is registered with."""

    run_name: str
    profile: str
    seed: int
    settings: Mapping[str, Any]
    """The influential ones."""
    settings_digest: str
    operational_settings: Mapping[str, Any]
    steps: int
    package_versions: Mapping[str, str]
    machine: Mapping[str, Any]
    git_commit: str | None = None
    source_run: str | None = None
    kind: Kind = "cycle"
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A registered run."""

    run_name: str
    profile: str
    seed: int
    settings: Mapping[str, Any]
    settings_digest: str
    operational_settings: Mapping[str, Any]
    steps: int
    state: str
    state_reason: str | None
    process: ProcessIdentity | None
    git_commit: str | None
    package_versions: Mapping[str, str]
    machine: Mapping[str, Any]
    estimate: Mapping[str, Any] | None
    source_run: str | None
    """The run whose data this one trains on; None when it has its own."""
    kind: Kind
    baseline: Baseline | None
    adapter_path: str | None
    weights_sha256: str | None
    created_at: datetime
    created: bool = False
    """Whether this call of `register` made it."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where a run stands, for people and scripts."""

    name: str
    state: State
    """`interrupted`: it says running, but its process is gone."""
    state_reason: str | None
    profile: str
    seed: int
    step: int
    """The next step; equal to `steps` when all are done."""
    steps: int
    rounds: int
    spend_usd: Decimal
    agreement: float | None
    """Mean share of the candidates in the agreement over the last 40 ranked rounds."""
    adapter_path: str | None
    weights_sha256: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; money becomes a float."""
        return {**asdict(self), "spend_usd": float(self.spend_usd)}
