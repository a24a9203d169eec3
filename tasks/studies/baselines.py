"""Baselines: what the data set's own preferences teach, on the prompts of a finished run, in as many optimizer steps.

SFT, RRHF and PRO take their steps with the white box's own `optimize`; DPO and the RL baseline with TRL's trainers, an
optional extra. Their optimizer steps and checkpoints are in the ledger like any run's. Zero-shot needs no run: it is
every run's `before`. Paper: Section 4.1, Table 1.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.errors import UsageError
from cyclealign.records import PreferencePair, TrainingExample
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.white_box.device_memory import TRAINING, fitting
from cyclealign.white_box.white_box import WhiteBox
from storage import checkpoints, rounds, runs, samples
from storage.rounds import OptimizerStep
from tasks.context import RunContext, new_run
from tasks.cycle.checkpointing import go_back, post_if_grown, write_checkpoint
from tasks.cycle.progress import Report, stage
from tasks.devices import device_slots
from tasks.models import training_reward_model
from tasks.preparation import Prepared
from tasks.studies.derivation import derive, finished_source, overlaid

OBJECTIVES: Mapping[runs.Baseline, str] = {"sft": "none", "rrhf": "rrhf", "pro": "pro", "dpo": "none", "rl": "none"}
"""L_rank of each baseline; DPO and RL have losses of their own."""
BY_TRL: tuple[runs.Baseline, ...] = ("dpo", "rl")
CHANGEABLE = ("method.objective", "method.drop_repeated", "baseline")


@dataclass(frozen=True)
class Course:
    """What a baseline learns from, how long, with which live model."""

    context: RunContext
    method: runs.Baseline
    white_box: WhiteBox
    pairs: Sequence[PreferencePair]
    """The data set's own replies to the run's training prompts, in their order."""
    steps: int
    """Optimizer steps."""

    def examples(self, step: int) -> list[TrainingExample]:
        """What an optimizer step learns: again and again all pairs, in their order.

        The chosen reply is preferred and is the SFT target, as a rewrite is in the cycle.
        """
        settings = self.context.settings
        size, limit = settings.training.examples, settings.white_box.sampling.max_new_tokens
        start = step % -(-len(self.pairs) // size) * size
        return [
            TrainingExample(
                pair.prompt,
                tuple(self.white_box.encode_reply(text, limit).tokens for text in (pair.chosen, pair.rejected)),
                preference=(0, 1),
                target=0,
            )
            for pair in self.pairs[start : start + size]
        ]

    def stretches(self, start: int) -> Iterator[range]:
        """The optimizer steps from `start` on, from checkpoint to checkpoint."""
        every = self.context.settings.training.checkpoint_every
        for first in range(start - start % every, self.steps, every):
            yield range(max(first, start), min(first + every, self.steps))


def open_baseline(
    source_run: str, method: runs.Baseline, name: str, overrides: Mapping[str, Any]
) -> tuple[RunContext, bool]:
    """The baseline of this name, registered in the ledger; the second value tells whether it is new.

    Raises:
        RunUnknown: there is no run `source_run`.
        UsageError: it is unfinished or a baseline itself, an override changes its data or evaluation, or the white box
            is quantised and TRL would train it.
        SettingsChanged: a run of this name exists with other settings, another method or another source.
    """
    source = finished_source(source_run)
    budget = rounds.optimizer_steps(source.ledger, source_run)
    if budget == 0:
        raise UsageError(
            f"Run {source_run!r} has no trained rounds. Expected a run of the cycle or a refold, whose number of "
            "optimizer steps the baseline takes."
        )
    derived = derive(source, name, overrides, CHANGEABLE)
    forced: dict[str, Any] = {"method": {"objective": OBJECTIVES[method]}}
    if method in BY_TRL:  # TRL's trainers train the network itself, in the process that they are in
        _refuse_quantized(derived.settings.white_box.quantization, method)
        forced["training"] = {"ranks": 1}
    context = replace(derived, settings=overlaid(derived.settings, forced))
    steps = context.settings.baseline.steps or budget
    wanted = replace(new_run(context), kind="baseline", baseline=method, source_run=source_run, steps=steps)
    return context, runs.register(context.ledger, wanted)


def _refuse_quantized(quantization: str, method: runs.Baseline) -> None:
    if quantization != "none":  # trl 1.16, in the trainers' __init__: "converted to bf16"
        raise UsageError(
            f"white_box.quantization = {quantization}, and TRL rounds a 4-bit model's adapter to bfloat16. Expected "
            f"float32, as in every other run. Choose sft, rrhf or pro instead of {method}, or a run with "
            "white_box.quantization = none."
        )


def learn(context: RunContext, method: runs.Baseline, white_box: WhiteBox, prepared: Prepared) -> None:
    """Take the optimizer steps that are left."""
    pairs = samples.read_pairs(context.ledger, samples.of_run(context.ledger, context.name, "training") or "")
    course = Course(context, method, white_box, pairs, runs.get(context.ledger, context.name).steps)
    with stage(f"Baseline {method}: {course.steps} optimizer steps") as report:
        if method in BY_TRL:
            stand_ins = prepared.stand_ins
            reward = training_reward_model(context.settings, context.home, stand_ins) if method == "rl" else None
            train_with_trl(course, reward, report)
            return
        for stretch in course.stretches(go_back(context, white_box)):
            train_stretch(course, stretch)
            report(f"optimizer step {stretch.stop}/{course.steps}", stretch.stop / course.steps)


def _stretch_name() -> str:
    stretch: range = task_run.parameters["stretch"]
    return f"optimizer steps {stretch.start + 1} to {stretch.stop}"


@task(name="segment", task_run_name=_stretch_name, tags=["gpu"], cache_policy=NO_CACHE)
def train_stretch(course: Course, stretch: range) -> str:
    """Optimizer steps on the data set's pairs, then a checkpoint; returns the weights' digest."""
    context = course.context
    with device_slots(context.settings):
        for step in stretch:
            context.ledger.record(take_step(course, step))
    return write_checkpoint(context.ledger, context.name, stretch.stop, course.white_box)


def take_step(course: Course, step: int) -> OptimizerStep:
    """One optimizer step on L = L_rank + λ·L_sft over the pairs of its batch."""
    clock, examples = time.monotonic(), course.examples(step)
    with fitting(f"An optimizer step on {len(examples)} pairs", TRAINING):
        report = course.white_box.optimize(examples, progress=step / course.steps)
    return OptimizerStep(
        run_name=course.context.name,
        optimizer_step=step,
        examples=len(examples),
        loss=report.loss,
        gradient_norm=report.gradient_norm,
        learning_rate=report.learning_rate,
        seconds=time.monotonic() - clock,
        rank_loss=sum(report.rank_losses) / len(examples),
        sft_loss=sum(report.sft_losses) / len(examples),
    )


def _trl_name() -> str:
    course: Course = task_run.parameters["course"]
    return f"{course.method}, {course.steps} optimizer steps"


@task(name="trl", task_run_name=_trl_name, tags=["gpu"], cache_policy=NO_CACHE)
def train_with_trl(course: Course, reward: RewardModel | None, report: Report) -> None:
    """Run TRL's trainer from the last checkpoint on, on its device."""
    from cyclealign.white_box.trl_trainers import Curriculum, take_adapter, train  # noqa: PLC0415  an optional extra

    context, workspace = course.context, course.context.folder / "trl"
    found = checkpoints.latest(context.ledger, context.name)
    if found is not None and found.step >= course.steps:
        take_adapter(course.white_box, context.ledger.home / found.path)
        return
    curriculum = Curriculum(course.white_box, context.settings, course.pairs, course.steps, reward, workspace)
    with device_slots(context.settings), fitting(f"TRL's trainer for {course.method}", TRAINING):
        train(curriculum, Keeper(course, report), context.ledger.home / found.path if found else None)
    shutil.rmtree(workspace, ignore_errors=True)  # its checkpoints were moved


class Keeper:
    """Puts what TRL's trainer reports into the ledger."""

    def __init__(self, course: Course, report: Report) -> None:
        self._course, self._report = course, report

    def step_done(self, **figures: Any) -> None:
        """Record one optimizer step."""
        context = self._course.context
        step = OptimizerStep(context.name, **figures)
        context.ledger.record(step)
        done = step.optimizer_step + 1
        self._report(f"optimizer step {done}/{self._course.steps}", done / self._course.steps)

    def checkpoint_written(self, steps: int, folder: Path) -> None:
        """Put the trainer's checkpoint in its place among the run's checkpoints."""

        def move(place: Path) -> None:
            for path in folder.iterdir():
                path.rename(place / path.name)
            folder.rmdir()

        context, weights = self._course.context, self._course.white_box.weights_sha256()
        checkpoints.write(context.ledger, context.name, steps, steps, weights, move)
        post_if_grown(context.ledger)
