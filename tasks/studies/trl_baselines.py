"""DPO and the RL baseline, by TRL's trainers: their optimizer steps and checkpoints in the ledger, like any run's.

The trainers are an optional extra (`cyclealign.white_box.trl_trainers`), imported when one of the two is asked for.
"""

import shutil
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.extras import require_extra
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.white_box.device_memory import TRAINING, fitting
from storage import checkpoints, optimizer_steps
from storage.checkpoints import NewCheckpoint
from storage.optimizer_steps import OptimizerStep
from tasks.cycle.progress import Report, say
from tasks.devices import device_slots
from tasks.models import training_reward_model
from tasks.preparation import Prepared
from tasks.studies.baselines import Course


def require_trl() -> None:
    """Raise `UsageError` with the command to run where TRL is not installed."""
    require_extra("trl", "baselines")


def train_with_trl(course: Course, prepared: Prepared, report: Report) -> None:
    """Take the optimizer steps that are left."""
    reward = None
    if course.method == "rl":
        reward, independent = training_reward_model(course.context.settings, course.context.home, prepared.stand_ins)
        if not independent:
            say(f"  {reward.identity} is optimised and evaluates too: its rewards say little, look at the others")
    run_trainer(course, reward, report)


def _name() -> str:
    course: Course = task_run.parameters["course"]
    return f"{course.method}, {course.steps} optimizer steps"


@task(name="trl", task_run_name=_name, tags=["gpu"], cache_policy=NO_CACHE)
def run_trainer(course: Course, reward: RewardModel | None, report: Report) -> None:
    """Run the trainer from the last checkpoint on, on its device."""
    from cyclealign.white_box.trl_trainers import Curriculum, take_adapter, train  # noqa: PLC0415  an optional extra

    context = course.context
    curriculum = Curriculum(
        settings=context.settings,
        pairs=course.pairs,
        steps=course.steps,
        reward=reward,
        workspace=context.folder / "trl",
    )
    found = checkpoints.latest(context.ledger, context.name)
    if found is not None and found.step >= course.steps:
        take_adapter(course.white_box, found.folder)
        return
    with device_slots(context.settings), fitting(f"TRL's trainer for {course.method}", TRAINING):
        train(course.white_box, curriculum, Keeper(course, report), found.folder if found else None)
    shutil.rmtree(curriculum.workspace, ignore_errors=True)  # its checkpoints were moved


class Keeper:
    """Puts what the trainer reports into the ledger."""

    def __init__(self, course: Course, report: Report) -> None:
        self._course, self._report = course, report

    def step_done(self, **figures: Any) -> None:
        """Record one optimizer step."""
        step, context = OptimizerStep(**figures), self._course.context
        optimizer_steps.record(context.ledger, context.name, [step])
        done = step.optimizer_step + 1
        self._report(f"optimizer step {done}/{self._course.steps}", done / self._course.steps)

    def checkpoint_written(self, steps: int, folder: Path) -> None:
        """Put the trainer's checkpoint in its place among the run's checkpoints."""
        context = self._course.context
        new = NewCheckpoint(context.name, steps, steps, self._course.white_box.weights_sha256())
        checkpoints.write(context.ledger, new, lambda place: _move_files(folder, place))
        context.ledger.publish_snapshot()


def _move_files(folder: Path, place: Path) -> None:
    for path in folder.iterdir():
        path.rename(place / path.name)
    folder.rmdir()
