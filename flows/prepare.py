"""Load, filter and sample the dialogues of a profile, and build the stand-ins that it needs."""

from typing import Any

from prefect import flow

from flows.train import named
from storage import runs
from tasks.context import open_run, running
from tasks.preparation import filter_counts
from tasks.preparation import prepare as prepare_run


@flow(name="cyclealign", flow_run_name=named("prepare"), validate_parameters=True)
def prepare(
    profile: str = "laptop", overrides: dict[str, Any] | None = None, run: str | None = None
) -> list[dict[str, Any]]:
    """Prepare the data of a run without training; returns the filter's counts per subset, split and reason.

    Args:
        profile: A name in `profiles/`, or a path to a YAML file of the same form.
        overrides: Settings laid over the profile, nested.
        run: The run's name; by default the profile and its seed.
    """
    context, _ = open_run(profile, overrides or {}, run)
    if runs.get(context.ledger, context.name).state in runs.DONE:
        return filter_counts(context, prepare_run(context))
    with running(context):
        counts = filter_counts(context, prepare_run(context))
    runs.pause(context.ledger, context.name, "prepared; `cyclealign train` goes on")
    return counts
