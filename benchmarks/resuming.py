"""The same command again after a kill: how long until the run does something new, and what a replayed round costs.

A run of 1000 steps of one round each is killed behind the checkpoint before step 801, with 32 recorded rounds after it.
A copy of what the kill left is continued in every repeat. The first figure is the time from the start of the process to
the first round that it samples: imports, Prefect's server, models, checkpoint, replay, and the sampling itself. The
second holds the replay of those 32 rounds against the time that they took when they were live, both from the ledger:
the replay from the account that the process opened after it had loaded the checkpoint, to the beginning of its first
sampling (so the start of the segment's task counts, too); live rounds from the beginning of their first sampling to
their last optimizer step.
"""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.laptop_run import RUN
from benchmarks.prefect_share import build_world
from benchmarks.rows import Row, at_most
from benchmarks.trained import cut_short, go_on
from storage.asking import answer

REPEATS = 3
STEPS, WAVE, CHECKPOINT_EVERY = 1000, 8, 40
KEPT, RECORDED = 800, 32
"""Steps before the last checkpoint, and rounds recorded after it, when the run is killed."""
SETTINGS = {
    "data.prompts": STEPS,
    "method.rounds": 1,
    "training.wave": WAVE,
    "training.checkpoint_every": CHECKPOINT_EVERY,
    "evaluation.prompts_per_subset": 2,
}
TIMES = """
    with turns as (
        select
            wave,
            min(step) as step,
            epoch(max(sampled_at)) as sampled,
            epoch(max(sampled_at)) - sum(sampling_seconds + scoring_seconds) as begun,
            epoch(max(trained_at)) as trained
        from rounds where run_name = '{run}' group by wave
    )
    select
        resumptions.rounds_replayed as replayed,
        epoch(resumptions.started_at) as resumed,
        max(turns.trained) filter (where turns.step < resumptions.first_new_step)
        - min(turns.begun) filter (where turns.step >= resumptions.checkpoint_step) as live_seconds,
        min(turns.begun) filter (where turns.step >= resumptions.first_new_step) as new_begun,
        min(turns.sampled) filter (where turns.step >= resumptions.first_new_step) as new_sampled
    from resumptions, turns where resumptions.run_name = '{run}' and resumptions.resumption = 1
    group by all
    """
"""One row: the first resumption of a run with one round per step. `wave` is a turn then."""


@dataclass(frozen=True)
class Continuation:
    """Times of one continuation, in seconds since the epoch unless they say otherwise."""

    started: float
    """When the command was given."""
    resumed: float
    """When the checkpoint was loaded and the account begun."""
    new_begun: float
    """When it began to sample its first new round."""
    new_sampled: float
    """When that was recorded."""
    replayed: int
    """Rounds."""
    live_seconds: float
    """What the replayed rounds took the first time."""

    @property
    def seconds_to_new(self) -> float:
        """From the command to the first new round."""
        return self.new_sampled - self.started

    @property
    def ratio(self) -> float:
        """A replayed round in terms of a live one."""
        return (self.new_begun - self.resumed) / self.live_seconds


def rows(repeats: int = REPEATS) -> list[Row]:
    """Seconds until the first new round, and a replayed round in terms of a live one."""
    world = build_world()
    with tempfile.TemporaryDirectory() as folder:
        killed = Path(folder) / "killed"
        killed.mkdir()
        cut_short(killed, world, SETTINGS, (KEPT + RECORDED) // WAVE)
        return rows_of([continued(killed, Path(folder) / str(number)) for number in range(repeats)])


def rows_of(continuations: list[Continuation]) -> list[Row]:
    """The rows of these continuations.

    Raises:
        RuntimeError: one of them replayed another number of rounds.
    """
    replayed = {one.replayed for one in continuations}
    if replayed != {RECORDED}:
        raise RuntimeError(f"Found {sorted(replayed)} replayed rounds, expected {RECORDED} each time.")
    again = median((one.new_begun - one.resumed) / RECORDED for one in continuations)
    live = median(one.live_seconds / RECORDED for one in continuations)
    begun = median(one.resumed - one.started for one in continuations)
    where = f"step {KEPT + RECORDED} of {STEPS}, {RECORDED} rounds after the checkpoint"
    return [
        Row(
            "the same command after a kill, to the first new round",
            at_most(60.0),
            tuple(one.seconds_to_new for one in continuations),
            "s",
            f"{where}; {begun:.1f} s until the checkpoint was loaded",
        ),
        Row(
            "a replayed round against a live one",
            at_most(1.0),
            tuple(one.ratio for one in continuations),
            note=f"{1000 * again:.0f} ms against {1000 * live:.0f} ms; {where}",
        ),
    ]


def continued(killed: Path, home: Path) -> Continuation:
    """Continue a copy of what the kill left, to the run's end."""
    shutil.copytree(killed, home, symlinks=True)
    started = time.time()
    go_on(home, SETTINGS)
    return read(home, started)


def read(home: Path, started: float) -> Continuation:
    """The times that the ledger holds of the run's first resumption."""
    [row] = answer(home, TIMES.format(run=RUN))[0].to_dict("records")
    return Continuation(started=started, **{str(name): value for name, value in row.items()})
