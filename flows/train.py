"""The whole job: prepare what is not there, run the cycles, evaluate before and after, publish the report.

Read in this order: this file, `tasks/cycle/loop.py` (the one loop), `cyclealign/method/agreement.py`,
`objectives.py`.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from cyclealign.errors import CycleAlignError
from cyclealign.white_box.ranks import refuse_too_many_ranks
from storage import response_rewards, runs
from tasks.context import RunContext, holding, load_settings, open_run, run_name, running
from tasks.cycle.assembly import Assembly, assemble, require_black_box
from tasks.cycle.candidate_rewards import score_candidates, score_segment
from tasks.cycle.checkpointing import save_checkpoint
from tasks.cycle.loop import run_segment
from tasks.cycle.progress import say
from tasks.cycle.sampling_server import require_sampler
from tasks.cycle.segments import segments
from tasks.estimating import refuse_small_disk
from tasks.evaluation.generation import Part, respond_as, score
from tasks.evaluation.publication import is_done, publish_report, save_adapter
from tasks.models import require_reward_model, reward_models
from tasks.preparation import Prepared, prepare


def named(verb: str) -> Callable[[], str]:
    """Names a flow run after what it does and its run."""

    def name() -> str:
        parameters = flow_run.parameters or {}
        return f"{verb} {parameters.get('run') or _default_name(parameters)}"

    return name


def _default_name(parameters: Mapping[str, Any]) -> str:
    """As `open_run` would name it; the profile where its settings do not validate, which the flow then says."""
    profile = str(parameters.get("profile"))
    with suppress(CycleAlignError):
        return run_name(load_settings(profile, parameters.get("overrides") or {}), None)
    return profile


@flow(name="cyclealign", flow_run_name=named("train"), validate_parameters=True)
def train(profile: str = "laptop", overrides: dict[str, Any] | None = None, run: str | None = None) -> dict[str, Any]:
    """Align the profile's white-box model with the help of its black-box model.

    The same parameters again continue an unfinished run where it stopped, from the ledger and the last checkpoint.

    Args:
        profile: A name in `profiles/`, or a path to a YAML file of the same form.
        overrides: Settings laid over the profile, nested: `{"method": {"rounds": 3}}`.
        run: The run's name; by default the profile and its seed.
    """
    context, new = open_run(profile, overrides or {}, run)
    if is_done(context):
        with holding(context):
            score_left(context)
            return publish_report(context)
    status = runs.status(context.ledger, context.name)[0]
    say(f"Run {context.name}: " + ("new" if new else f"continues at step {status.step} of {status.steps}"))
    with running(context):
        require_black_box(context)
        require_sampler(context)
        prepared = get_ready(context)
        finish(context, prepared, sample_and_train(context, prepared))
        return publish_report(context)


def get_ready(context: RunContext) -> Prepared:
    """Make what every training needs, or refuse, before anything is bought, trained or answered.

    Raises:
        ModelError: a model is missing, or there are fewer GPUs than ranks.
        DataError: files of dialogues are missing, or others than those that the run began with.
        StorageFull: the disk has no room for the run.
    """
    refuse_too_many_ranks(context.settings.white_box, context.settings.training.ranks)
    refuse_small_disk(context)
    prepared = prepare(context)
    require_reward_model(context.settings)
    return prepared


def sample_and_train(context: RunContext, prepared: Prepared) -> tuple[Part, ...]:
    """All that needs the white box, whose memory is free afterwards; returns the parts of its responses."""
    with assemble(context, prepared) as parts:
        return cycle_through(context, prepared, parts)


def cycle_through(context: RunContext, prepared: Prepared, parts: Assembly) -> tuple[Part, ...]:
    """Respond to the held-out prompts, run the cycles that are left, respond again; returns the responses' parts."""
    cycle = parts.cycle
    before = respond_as(context, cycle.white_box, prepared.evaluation, role="before")
    with cycle.progress.showing(parts.start):
        for segment in segments(context.settings, len(cycle.prompts), parts.start):
            run_segment(cycle, segment)
            save_checkpoint(cycle, segment)
            if parts.scoring:
                cycle.progress.scored(score_segment(context, cycle.prompts, parts.scoring, segment))
    save_adapter(context, cycle.white_box)
    return before + respond_as(context, cycle.white_box, prepared.evaluation, role="after")


def finish(context: RunContext, prepared: Prepared, responses: Sequence[Part]) -> None:
    """Score what is not scored. By now the white box is gone: a large reward model may need its memory."""
    gc.collect()
    scoring = reward_models(context.settings, context.home, prepared.stand_ins)
    score(responses, scoring)
    if context.settings.evaluation.score_candidates:
        score_candidates(context, prepared.training, scoring)
    runs.finish(context.ledger, context.name)


def score_left(context: RunContext) -> None:
    """Score the candidates that a complete run left unscored, where its settings want that by now."""
    if context.settings.evaluation.score_candidates and response_rewards.any_unscored(context.ledger, context.name):
        say("  Its candidates are not all scored: that is made up for.")
        prepared = get_ready(context)
        scoring = reward_models(context.settings, context.home, prepared.stand_ins)
        score_candidates(context, prepared.training, scoring)
