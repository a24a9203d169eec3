"""The whole job: prepare what is not there, run the cycles, evaluate before and after, publish the report.

Read in this order: this file, `tasks/cycle.py` (the one loop), `cyclealign/method/agreement.py` and `objectives.py`.
"""

from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from storage import runs
from tasks.assembly import Assembly, assemble, require_black_box
from tasks.context import RunContext, open_run, running
from tasks.cycle import run_segment, save_checkpoint
from tasks.estimating import refuse_small_disk
from tasks.evaluation import evaluate_system, score_candidates
from tasks.preparation import Prepared, prepare
from tasks.progress import say
from tasks.publication import publish_report, save_adapter
from tasks.segments import segments


def named(verb: str) -> Callable[[], str]:
    """Names a flow run after what it does and its run, or its profile where the run has no name of its own."""

    def name() -> str:
        parameters = flow_run.parameters or {}
        return f"{verb} {parameters.get('run') or parameters.get('profile')}"

    return name


@flow(name="cyclealign", flow_run_name=named("train"), validate_parameters=True)
def train(
    profile: str = "laptop", overrides: dict[str, Any] | None = None, run: str | None = None
) -> dict[str, Any]:
    """Align the profile's white-box model with the help of its black-box model.

    The same parameters again continue an unfinished run where it stopped, from the ledger and the last checkpoint.

    Args:
        profile: A name in `profiles/`, or a path to a YAML file of the same form.
        overrides: Settings laid over the profile, nested: `{"method": {"rounds": 3}}`.
        run: The run's name; by default the profile and its seed.
    """
    context, new = open_run(profile, overrides or {}, run)
    status = runs.status(context.ledger, context.name)[0]
    if status.state == "complete":
        say(f"Run {context.name} is complete; nothing to do. Its report is printed below.")
        return publish_report(context)
    say(f"Run {context.name}: " + ("new" if new else f"continues at step {status.step} of {status.steps}"))
    with running(context):
        align(context)
        return publish_report(context)


def align(context: RunContext) -> None:
    """Everything of a run that computes, in order."""
    refuse_small_disk(context)
    require_black_box(context)
    prepared = prepare(context)
    with assemble(context, prepared) as parts:
        complete(context, prepared, parts)


def complete(context: RunContext, prepared: Prepared, parts: Assembly) -> None:
    """Evaluate before, run the cycles that are left, evaluate after."""
    cycle, scoring = parts.cycle, parts.scoring
    evaluate_system(context, cycle.white_box, scoring, prepared.evaluation, role="before")
    with cycle.progress.showing(parts.start):
        for segment in segments(context.settings, len(cycle.prompts), parts.start):
            run_segment(cycle, segment)
            save_checkpoint(cycle, segment)
    save_adapter(context, cycle.white_box)
    evaluate_system(context, cycle.white_box, scoring, prepared.evaluation, role="after")
    score_candidates(context, cycle.prompts, scoring)
    runs.finish(context.ledger, context.name)
