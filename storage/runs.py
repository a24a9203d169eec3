"""Runs: a resolved profile under a name, the process that works on it, and where it stands.

Settings decide whether a name means the same run; operational ones may change between resumptions. One process works
on a run at a time: it holds the lock on a file in the run's folder for as long as it does, so a run that says it is
running and whose lock is free was interrupted.
"""

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import Json

from cyclealign.disk import writing
from cyclealign.errors import RunUnknown, SettingsChanged, UsageError
from cyclealign.profiles import completed, differences
from storage.facts import fact, value
from storage.ledger import Ledger, Session

State = Literal["running", "interrupted", "paused", "complete", "incomplete", "failed"]
"""`incomplete`: everything of the run is done, and a tenth of its rounds or more could not be ranked."""
DONE = frozenset({"complete", "incomplete"})
Kind = Literal["cycle", "refold", "baseline"]
Baseline = Literal["sft", "rrhf", "pro", "dpo", "rl"]
LOCK = ".lock"
UNRANKED_SHARE = 0.1
"""Of a run's rounds: from here on it does not count as complete."""
_held: dict[Path, int] = {}
"""Descriptors of the locks that this process holds."""


@fact("registrations")
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
    """The run whose data this one trains on; None when it has its own."""
    kind: Kind = "cycle"
    baseline: Baseline | None = None


@fact("run_events")
@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened to a run."""

    run_name: str
    event: Literal["began", "paused", "complete", "incomplete", "failed", "estimated", "adapter", "forgotten"]
    reason: str | None = None
    process_host: str | None = None
    process_id: int | None = None
    estimate: Mapping[str, Any] | None = None
    adapter_path: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A registered run: what it was registered with, and what happened to it."""

    run_name: str
    profile: str
    seed: int
    settings: Json[dict[str, Any]]
    settings_digest: str
    operational_settings: Json[dict[str, Any]]
    steps: int
    state: str
    state_reason: str | None
    git_commit: str | None
    package_versions: Json[dict[str, str]]
    machine: Json[dict[str, Any]]
    estimate: Json[dict[str, Any]] | None
    source_run: str | None
    kind: Kind
    baseline: Baseline | None
    adapter_path: str | None
    weights_sha256: str | None
    created_at: datetime


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
    unranked: float
    """Share of the rounds that could not be ranked and so trained nothing."""
    agreement: float | None
    """Mean share of the candidates in the agreement over the last 40 ranked rounds."""
    adapter_path: str | None
    weights_sha256: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; money becomes a float."""
        return {**asdict(self), "spend_usd": float(self.spend_usd)}


def register(ledger: Ledger, run: NewRun) -> bool:
    """Make the run of this name where there is none; returns whether it is new.

    One that ended before anything was computed, for a wrong path say, gives its name up to other settings.

    Raises:
        SettingsChanged: a run of this name exists with other influential settings.
    """
    with ledger.session() as session:
        known = _find(session, run.run_name)
        given_up = known is not None and bool(_changes(known, run)) and _unused(session, known)
    if known is None or given_up:
        if given_up:
            ledger.record(RunEvent(run.run_name, "forgotten"))
        ledger.record(run)
        return True
    refuse_changed(known, run)
    if known.operational_settings != dict(run.operational_settings):
        ledger.record(run)
    return False


def refuse_changed(known: Run, wanted: NewRun) -> None:
    """Raise `SettingsChanged` with the differences when a known run is another one than is wanted under its name."""
    if changed := _changes(known, wanted):
        lines = "\n".join(f"  {line}" for line in changed)
        raise SettingsChanged(
            f"Run {wanted.run_name!r} exists with other settings:\n{lines}\n"
            f"Expected the same settings to continue it. Give the new run another name with --run."
        )


def get(ledger: Ledger, run_name: str) -> Run:
    """The run of this name.

    Raises:
        RunUnknown: there is none; the message names those there are.
    """
    with ledger.session() as session:
        found = _find(session, run_name)
        if found is None:
            raise _unknown(run_name, names(ledger))
    return found


def names(ledger: Ledger) -> list[str]:
    """The names of all runs, oldest first."""
    with ledger.session() as session:
        return [row["run_name"] for row in session.rows("runs/names")]


@contextmanager
def held(ledger: Ledger, run_name: str) -> Iterator[None]:
    """Work on a run, alone, for the block.

    Raises:
        UsageError: another process works on it.
    """
    path = (ledger.home / run_name / LOCK).absolute()
    if path in _held:
        yield
        return
    _held[path] = _locked(path, run_name)
    try:
        yield
    finally:
        os.close(_held.pop(path))


def begin(ledger: Ledger, run_name: str) -> None:
    """Note that this process, which holds the run, runs it from now on."""
    ledger.record(RunEvent(run_name, "began", process_host=socket.gethostname(), process_id=os.getpid()))


def finish(ledger: Ledger, run_name: str) -> None:
    """Note that everything of the run is done; `incomplete` where a tenth of its rounds or more taught nothing."""
    with ledger.session() as session:
        unranked = session.rows("exhibits/run_unranked", run_name=run_name)
    share = sum(row["share_of_rounds"] for row in unranked)
    if share < UNRANKED_SHARE:
        ledger.record(RunEvent(run_name, "complete"))
        return
    reasons = ", ".join(f"{row['reason']} {row['rounds']}" for row in unranked)
    words = f"{100 * share:.0f} % of its rounds could not be ranked and taught nothing ({reasons})"
    ledger.record(RunEvent(run_name, "incomplete", words))


def pause(ledger: Ledger, run_name: str, reason: str) -> None:
    """Note that the run stopped cleanly and can go on when `reason` is gone."""
    ledger.record(RunEvent(run_name, "paused", reason))


def fail(ledger: Ledger, run_name: str, reason: str) -> None:
    """Note that the run ended with an error."""
    ledger.record(RunEvent(run_name, "failed", reason))


def record_adapter(ledger: Ledger, run_name: str, adapter_path: Path, weights_sha256: str) -> None:
    """Note where the trained adapter is and the digest of its tensors."""
    ledger.record(RunEvent(run_name, "adapter", adapter_path=str(adapter_path), weights_sha256=weights_sha256))


def record_estimate(ledger: Ledger, run_name: str, estimate: Mapping[str, Any]) -> None:
    """Keep the estimate that was printed before the first paid call."""
    ledger.record(RunEvent(run_name, "estimated", estimate=estimate))


def status(ledger: Ledger, run_name: str | None = None) -> list[RunStatus]:
    """Where the runs stand, oldest first; of one run when a name is given.

    Raises:
        RunUnknown: there is no run of that name.
    """
    with ledger.session() as session:
        found = [_status(ledger, row) for row in session.rows("runs/status", run_name=run_name)]
    if run_name is not None and not found:
        raise _unknown(run_name, names(ledger))
    return found


def _changes(known: Run, wanted: NewRun) -> list[str]:
    """One line per thing in which the run of this name is another one than is wanted."""
    pairs = [(name, getattr(known, name), getattr(wanted, name)) for name in ("kind", "baseline", "source_run")]
    origin = [f"{name}: {before} -> {after}" for name, before, after in pairs if before != after]
    return origin + differences(completed(known.settings), wanted.settings)


def _find(session: Session, run_name: str) -> Run | None:
    row = session.row("of_run", this_table="runs", run_name=run_name)
    return None if row is None else value(Run, row)


def _unused(session: Session, run: Run) -> bool:
    """Whether a run ended before anything was computed or bought under its name."""
    return run.state in ("failed", "paused") and bool(session.value("runs/unused", run_name=run.run_name))


def _unknown(run_name: str, known: list[str]) -> RunUnknown:
    return RunUnknown(f"No run {run_name!r} in the ledger. Runs there: {', '.join(known) or 'none yet'}.")


def _status(ledger: Ledger, row: dict[str, Any]) -> RunStatus:
    interrupted = row["state"] == "running" and not _is_held(ledger.home / row["run_name"] / LOCK)
    state = "interrupted" if interrupted else row["state"]
    return RunStatus(name=row.pop("run_name"), **{**row, "state": state, "spend_usd": Decimal(str(row["spend_usd"]))})


def _locked(path: Path, run_name: str) -> int:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode(errors="replace")
            os.close(descriptor)
            raise UsageError(
                f"Run {run_name!r} is being run by {_described(holder)}. Expected no other process to work on it. Wait "
                "until that process ends, or stop it and repeat the command: nothing will be lost."
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _is_held(path: Path) -> bool:
    if path.absolute() in _held:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _described(holder: str) -> str:
    """`process 4711 (python -m …)`, or only the number when the command cannot be read."""
    try:
        command = " ".join(" ".join(psutil.Process(int(holder)).cmdline()).split())
    except (psutil.Error, ValueError):
        command = ""
    return f"process {holder} ({command[:120]})" if command else f"process {holder}"
