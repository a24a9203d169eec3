"""The same command again after a kill: how long until the run does something new, and what a replayed round costs.

A run of 1000 steps of one round each is killed when the ledger has 32 trained rounds behind the checkpoint before step
801. A copy of the killed home is continued in every repeat. The first figure is the time from the start of the process
to the first round that it samples: imports, Prefect's server, models, checkpoint, replay, and the sampling itself. The
second holds the replay against the time that the same rounds took when they were live, both from the ledger: the replay
from the moment the process had loaded the checkpoint to the beginning of its first sampling (so the start of the
segment's task counts, too); live rounds from the beginning of their first sampling to their last optimizer step.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.laptop import RUN, Settings, build_world, command, environment, new_home, train
from benchmarks.measuring import ROOT, Row
from cyclealign.errors import UsageError
from storage.ledger import Ledger

REPEATS = 3
STEPS, WAVE, CHECKPOINT_EVERY = 1000, 8, 40
KEPT, RECORDED = 800, 32
"""Steps before the last checkpoint, and rounds recorded after it, when the run is killed."""
SETTINGS: Settings = {
    "data.prompts": STEPS,
    "method.rounds": 1,
    "training.wave": WAVE,
    "training.checkpoint_every": CHECKPOINT_EVERY,
    "evaluation.prompts_per_subset": 2,
}
TRAINED = "select count(*) from rounds where run_name = $run and trained_at is not null"
TIMES = """
    with turns as (
        select
            wave,
            min(step) as step,
            epoch(max(sampled_at)) as sampled,
            epoch(max(sampled_at)) - sum(sampling_seconds + scoring_seconds) as begun,
            epoch(max(trained_at)) as trained
        from rounds where run_name = $run group by wave
    )
    select
        resumptions.rounds_replayed,
        epoch(resumptions.started_at) - $started,
        min(turns.sampled) filter (where turns.step >= resumptions.first_new_step) - $started,
        min(turns.begun) filter (where turns.step >= resumptions.first_new_step) - epoch(resumptions.started_at),
        max(turns.trained) filter (where turns.step < resumptions.first_new_step)
        - min(turns.begun) filter (where turns.step >= resumptions.checkpoint_step)
    from resumptions, turns where resumptions.run_name = $run and resumptions.resumption = 1
    group by resumptions.rounds_replayed, resumptions.started_at
    """
"""The `Continuation` at the first resumption of a run with one round per step; `wave` is a turn then."""


class Continuation(NamedTuple):
    """Seconds of one continuation."""

    replayed: int
    """Rounds."""
    to_checkpoint: float
    """From the command until the checkpoint was loaded."""
    to_new: float
    """From the command until the first new round was sampled."""
    replaying: float
    live: float
    """What the replayed rounds took the first time."""


def rows(repeats: int = REPEATS) -> list[Row]:
    """Seconds until the first new round, and a replayed round in terms of a live one."""
    with tempfile.TemporaryDirectory() as folder:
        home = new_home(Path(folder), "killed", build_world())
        run_and_kill(home)
        found = [continued(home, Path(folder) / str(number)) for number in range(repeats)]
    usual = Continuation(*map(median, zip(*found, strict=True)))
    again, live = (1000 * one / usual.replayed for one in (usual.replaying, usual.live))
    where = f"step {KEPT + usual.replayed:.0f} of {STEPS}, {usual.replayed:.0f} rounds after the checkpoint"
    begun = f"{where}; {usual.to_checkpoint:.1f} s until the checkpoint was loaded"
    to_new, ratios = tuple(one.to_new for one in found), tuple(one.replaying / one.live for one in found)
    replay = f"{again:.0f} ms against {live:.0f} ms; {where}"
    return [
        Row("the same command after a kill, to the first new round", to_new, "s", begun, at_most=60.0),
        Row("a replayed round against a live one", ratios, note=replay, at_most=1.0),
    ]


def run_and_kill(home: Path) -> None:
    """Train until there are enough recorded rounds behind the checkpoint, then SIGKILL."""
    process = subprocess.Popen(
        command(SETTINGS),
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while trained(home) < KEPT + RECORDED:
            time.sleep(0.25)
            if process.poll() is not None:
                raise RuntimeError(f"A run that was to be killed ended with {process.returncode}.")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def trained(home: Path) -> int:
    """Rounds that are trained by now."""
    try:
        return int(Ledger(home).query(TRAINED, {"run": RUN}).to_numpy()[0, 0])
    except UsageError:  # there is no ledger yet
        return 0


def continued(killed: Path, home: Path) -> Continuation:
    """Continue a copy of the killed home to the run's end."""
    shutil.copytree(killed, home, symlinks=True)
    started = time.time()
    train(home, SETTINGS)
    [row] = Ledger(home).query(TIMES, {"run": RUN, "started": started}).to_numpy().tolist()
    found = Continuation(*row)
    if not found.replayed:
        raise RuntimeError("Found no replayed round, expected those behind the last checkpoint.")
    return found
