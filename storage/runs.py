"""Runs: a resolved profile under a name, the process that works on it, and where it stands.

Settings decide whether a name means the same run; operational ones may change between resumptions.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from cyclealign.errors import RunUnknown, SettingsChanged, UsageError
from cyclealign.profiles import completed, differences
from storage import processes, queries
from storage.ledger import Ledger, Session
from storage.processes import ProcessIdentity
from storage.run_values import Baseline, Kind, NewRun, RunRow, RunStatus, State

__all__ = [
    "Baseline",
    "Kind",
    "NewRun",
    "RunRow",
    "RunStatus",
    "State",
    "claim",
    "fail",
    "finish",
    "get",
    "pause",
    "record_adapter",
    "record_estimate",
    "refuse_changed",
    "register",
    "status",
    "status_anywhere",
]


def register(ledger: Ledger, run: NewRun) -> RunRow:
    """The run of this name, made when there is none (`created` tells).

    One that ended before anything was computed, for a wrong path say, gives its name up to other settings.

    Raises:
        SettingsChanged: a run of this name exists with other influential settings.
    """
    with ledger.session() as session, session.transaction():
        known = _find(session, run.run_name)
        if known is not None and _changes(known, run):
            session.run("runs/forget_unused", run_name=run.run_name)
            session.run("runs/forget_samples", run_name=run.run_name)
            known = _find(session, run.run_name)
        if known is None:
            session.run("runs/insert", **_insertable(run))
            return _get(session, run.run_name, created=True)
        refuse_changed(known, run)
        operational = json.dumps(dict(run.operational_settings))
        session.run("runs/update_operational_settings", run_name=run.run_name, operational_settings=operational)
        return _get(session, run.run_name)


def refuse_changed(known: RunRow, wanted: NewRun) -> None:
    """Raise `SettingsChanged` with the differences when a known run is another one than is wanted under its name."""
    if changed := _changes(known, wanted):
        lines = "\n".join(f"  {line}" for line in changed)
        raise SettingsChanged(
            f"Run {wanted.run_name!r} exists with other settings:\n{lines}\n"
            f"Expected the same settings to continue it. Give the new run another name with --run."
        )


def get(ledger: Ledger, run_name: str) -> RunRow:
    """The run of this name.

    Raises:
        RunUnknown: there is none; the message names those there are.
    """
    with ledger.session() as session:
        return _get(session, run_name)


def claim(ledger: Ledger, run_name: str) -> None:
    """Note that this process runs the run from now on.

    Whether a process on another host lives cannot be known here: such a run may be claimed.

    Raises:
        UsageError: another living process runs it.
        RunUnknown: there is no such run.
    """
    me = processes.current()
    with ledger.session() as session, session.transaction():
        run = _get(session, run_name)
        if run.state == "running" and run.process not in (None, me) and run.process.lives():
            raise UsageError(
                f"Run {run_name!r} is being run by {processes.describe(run.process.pid)}. Expected nobody "
                f"to work on it. Wait until that process ends, or stop it and repeat the command: nothing "
                "will be lost."
            )
        session.run(
            "runs/claim", run_name=run_name, process_host=me.host, process_id=me.pid, process_started_at=me.started_at
        )


def finish(ledger: Ledger, run_name: str) -> None:
    """Note that everything of the run is done."""
    _end(ledger, run_name, "complete", None)


def pause(ledger: Ledger, run_name: str, reason: str) -> None:
    """Note that the run stopped cleanly and can go on when `reason` is gone."""
    _end(ledger, run_name, "paused", reason)


def fail(ledger: Ledger, run_name: str, reason: str) -> None:
    """Note that the run ended with an error."""
    _end(ledger, run_name, "failed", reason)


def record_adapter(ledger: Ledger, run_name: str, adapter_path: Path, weights_sha256: str) -> None:
    """Note where the trained adapter is and the digest of its tensors."""
    with ledger.session() as session:
        session.run(
            "runs/record_adapter", run_name=run_name, adapter_path=str(adapter_path), weights_sha256=weights_sha256
        )


def record_estimate(ledger: Ledger, run_name: str, estimate: Mapping[str, Any]) -> None:
    """Keep the estimate that was printed before the first paid call."""
    with ledger.session() as session:
        session.run("runs/record_estimate", run_name=run_name, estimate=json.dumps(dict(estimate)))


def status(ledger: Ledger, run_name: str | None = None) -> list[RunStatus]:
    """Where the runs stand, oldest first; of one run when a name is given.

    Raises:
        RunUnknown: there is no run of that name.
    """
    with ledger.session() as session:
        found = [_status(row) for row in session.rows("runs/status", run_name=run_name)]
        if run_name is not None and not found:
            raise _unknown(run_name, [row["run_name"] for row in session.rows("runs/names")])
    return found


def status_anywhere(home: Path, run_name: str | None = None) -> list[RunStatus]:
    """The same as `status`, from the snapshot while another process holds the ledger.

    Raises:
        RunUnknown: there is no run of that name.
        UsageError: there is no ledger yet.
    """
    frame, _ = Ledger(home).query_anywhere(queries.load("runs/status"), {"run_name": None})
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    found = [_status({str(key): value for key, value in row.items()}) for row in rows]
    chosen = [one for one in found if run_name in (None, one.name)]
    if run_name is not None and not chosen:
        raise _unknown(run_name, [one.name for one in found])
    return chosen


def _changes(known: RunRow, wanted: NewRun) -> list[str]:
    """One line per thing in which the run of this name is another one than is wanted."""
    return _other_origin(known, wanted) + differences(completed(known.settings), wanted.settings)


def _other_origin(known: RunRow, wanted: NewRun) -> list[str]:
    """One line per thing besides the settings in which the run of this name is another one."""
    names = ("kind", "baseline", "source_run")
    pairs = [(name, getattr(known, name), getattr(wanted, name)) for name in names]
    return [f"{name}: {before} -> {after}" for name, before, after in pairs if before != after]


def _find(session: Session, run_name: str) -> RunRow | None:
    row = session.row("runs/get", run_name=run_name)
    if row is None:
        return None
    for name in ("settings", "operational_settings", "package_versions", "machine", "estimate"):
        row[name] = None if row[name] is None else json.loads(row[name])
    return RunRow(process=_process(row), **row)


def _get(session: Session, run_name: str, *, created: bool = False) -> RunRow:
    found = _find(session, run_name)
    if found is None:
        raise _unknown(run_name, [row["run_name"] for row in session.rows("runs/names")])
    return replace(found, created=created)


def _unknown(run_name: str, known: list[str]) -> RunUnknown:
    names = ", ".join(known) or "none yet"
    return RunUnknown(f"No run {run_name!r} in the ledger. Runs there: {names}.")


def _insertable(run: NewRun) -> dict[str, Any]:
    return {
        name: json.dumps(dict(value)) if isinstance(value, Mapping) else value
        for name, value in ((name, getattr(run, name)) for name in NewRun.__dataclass_fields__)
    }


def _process(row: dict[str, Any]) -> ProcessIdentity | None:
    host, pid, started_at = (row.pop(f"process_{name}") for name in ("host", "id", "started_at"))
    return None if host is None else ProcessIdentity(host, int(pid), started_at)


def _status(row: dict[str, Any]) -> RunStatus:
    process = _process(row)
    interrupted = row["state"] == "running" and (process is None or process.lives() is False)
    spend_usd = Decimal(str(row.pop("spend_usd")))
    state = "interrupted" if interrupted else row["state"]
    return RunStatus(name=row.pop("run_name"), **{**row, "state": state, "spend_usd": spend_usd})


def _end(ledger: Ledger, run_name: str, state: str, reason: str | None) -> None:
    with ledger.session() as session:
        session.run("runs/end", run_name=run_name, state=state, reason=reason)
