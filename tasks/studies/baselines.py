"""Baselines: what the data set's own preferences teach, on the prompts of a finished run, in as many optimizer steps.

SFT, RRHF and PRO take their steps with the white box's own `optimize`; DPO and the RL baseline with TRL's trainers
(`tasks.studies.trl_baselines`). Zero-shot needs no run: it is every run's `before`. Paper: Section 4.1, Table 1.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.errors import UsageError
from cyclealign.records import OptimizerReport, PreferencePair, TrainingExample
from cyclealign.settings import Settings
from cyclealign.white_box.device_memory import TRAINING, fitting
from cyclealign.white_box.white_box import WhiteBox
from storage import optimizer_steps, runs, samples
from storage.optimizer_steps import OptimizerStep
from tasks.context import RunContext, new_run
from tasks.cycle.checkpointing import write_checkpoint
from tasks.devices import device_slots
from tasks.studies.derivation import derive, finished_source, overlaid

OBJECTIVES: Mapping[runs.Baseline, str] = {"sft": "none", "rrhf": "rrhf", "pro": "pro", "dpo": "none", "rl": "none"}
"""L_rank of each baseline; DPO and RL have losses of their own."""
OURS: tuple[runs.Baseline, ...] = ("sft", "rrhf", "pro")
CHANGEABLE = ("method.objective", "method.drop_repeated", "baseline")


@dataclass(frozen=True)
class Course:
    """What a baseline learns from, how long, with which live model."""

    context: RunContext
    method: runs.Baseline
    white_box: WhiteBox
    pairs: Sequence[PreferencePair]
    """In the order of the run's training prompts."""
    steps: int
    """Optimizer steps."""

    def batch(self, step: int) -> Sequence[PreferencePair]:
        """The pairs of an optimizer step: again and again through all of them, in their order."""
        size = self.context.settings.training.examples
        start = step % -(-len(self.pairs) // size) * size
        return self.pairs[start : start + size]

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
    budget = optimizer_steps.of_rounds(source.ledger, source_run)
    if budget == 0:
        raise UsageError(
            f"Run {source_run!r} has no trained rounds. Expected a run of the cycle or a refold, whose number of "
            "optimizer steps the baseline takes."
        )
    derived = derive(source, name, overrides, CHANGEABLE)
    settings = overlaid(derived.settings, {"method": {"objective": OBJECTIVES[method]}})
    if method not in OURS:  # TRL's trainers train the network itself, in the process that they are in
        _refuse_quantized(settings, method)
        settings = overlaid(settings, {"training": {"ranks": 1}})
    context = replace(derived, settings=settings)
    steps = settings.baseline.steps or budget
    wanted = replace(new_run(context), kind="baseline", baseline=method, source_run=source_run, steps=steps)
    return context, runs.register(context.ledger, wanted).created


def _refuse_quantized(settings: Settings, method: runs.Baseline) -> None:
    quantization = settings.white_box.quantization
    if quantization != "none":  # trl 1.16, in the trainers' __init__: "converted to bf16"
        raise UsageError(
            f"white_box.quantization = {quantization}, and TRL rounds a 4-bit model's adapter to bfloat16. Expected "
            f"float32, as in every other run. Choose sft, rrhf or pro instead of {method}, or a run with "
            "white_box.quantization = none."
        )


def training_pairs(context: RunContext) -> list[PreferencePair]:
    """The run's training prompts with the data set's own replies, in order."""
    return samples.read_pairs(context.ledger, samples.of_run(context.ledger, context.name, "training") or "")


def pair_example(white_box: WhiteBox, pair: PreferencePair, limit: int) -> TrainingExample:
    """What a pair teaches: the chosen reply is preferred and is the SFT target, as a rewrite is in the cycle."""
    replies = tuple(white_box.encode_reply(text, limit).tokens for text in (pair.chosen, pair.rejected))
    return TrainingExample(pair.prompt, replies, preference=(0, 1), target=0)


def _stretch_name() -> str:
    stretch: range = task_run.parameters["stretch"]
    return f"optimizer steps {stretch.start + 1} to {stretch.stop}"


@task(name="segment", task_run_name=_stretch_name, tags=["gpu"], cache_policy=NO_CACHE)
def train_stretch(course: Course, stretch: range) -> str:
    """Optimizer steps on the data set's pairs, then a checkpoint; returns the weights' digest."""
    context = course.context
    with device_slots(context.settings):
        for step in stretch:
            optimizer_steps.record(context.ledger, context.name, [take_step(course, step)])
    return write_checkpoint(context.ledger, context.name, stretch.stop, course.white_box)


def take_step(course: Course, step: int) -> OptimizerStep:
    """One optimizer step on L = L_rank + λ·L_sft over the pairs of its batch."""
    clock, batch = time.monotonic(), course.batch(step)
    limit = course.context.settings.white_box.sampling.max_new_tokens
    examples = [pair_example(course.white_box, pair, limit) for pair in batch]
    with fitting(f"An optimizer step on {len(examples)} pairs", TRAINING):
        report = course.white_box.optimize(examples, progress=step / course.steps)
    return _step(step, report, time.monotonic() - clock)


def _step(step: int, report: OptimizerReport, seconds: float) -> OptimizerStep:
    examples = len(report.rank_losses)
    return OptimizerStep(
        optimizer_step=step,
        examples=examples,
        loss=report.loss,
        gradient_norm=report.gradient_norm,
        learning_rate=report.learning_rate,
        seconds=seconds,
        rank_loss=sum(report.rank_losses) / examples,
        sft_loss=sum(report.sft_losses) / examples,
    )
