"""Train again from the recorded rounds of a finished run, with another objective, rate, order, rewrite or backbone."""

from typing import Any

from prefect import flow

from flows.train import cycle_through, finish, get_ready, score_left
from tasks.context import RunContext, holding, running
from tasks.cycle.progress import say
from tasks.evaluation.generation import Part
from tasks.evaluation.publication import is_done, publish_report
from tasks.preparation import Prepared
from tasks.studies.refolding import assemble_refold, open_refold


@flow(name="cyclealign", flow_run_name="refold {source} as {run}", validate_parameters=True)
def refold(source: str, run: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train a new run on the responses, rankings and rewrites that a finished run recorded, then evaluate it.

    Nothing is sampled for training and nothing is asked. The same parameters again continue an unfinished refold.

    Args:
        source: The finished run whose rounds are used.
        run: The new run's name.
        overrides: Settings laid over the source's, nested: `{"method": {"objective": "rrhf"}}`.
    """
    context, new = open_refold(source, run, overrides or {})
    if is_done(context):
        with holding(context):
            score_left(context)
            return publish_report(context)
    say(f"Run {run}, a refold of {source}: " + ("new" if new else "continues"))
    with running(context):
        prepared = get_ready(context)
        finish(context, prepared, train_again(context, prepared))
        return publish_report(context)


def train_again(context: RunContext, prepared: Prepared) -> tuple[Part, ...]:
    """All that needs the white box, whose memory is free afterwards; returns the parts of its responses."""
    with assemble_refold(context, prepared) as parts:
        return cycle_through(context, prepared, parts)
