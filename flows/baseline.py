"""Train the same model on the data set's own preferences instead: SFT, RRHF, PRO, DPO or an RL baseline."""

from typing import Any, Literal

from prefect import flow

from cyclealign.extras import require_extra
from flows.train import finish, get_ready
from storage import runs
from tasks.context import RunContext, holding, running
from tasks.cycle.assembly import loaded_white_box
from tasks.cycle.progress import say
from tasks.evaluation.generation import Part, respond_as
from tasks.evaluation.publication import is_done, publish_report, save_adapter
from tasks.preparation import Prepared
from tasks.studies.baselines import BY_TRL, learn, open_baseline


@flow(name="cyclealign", flow_run_name="baseline {method} of {source} as {run}", validate_parameters=True)
def baseline(
    source: str, method: Literal["sft", "rrhf", "pro", "dpo", "rl"], run: str, overrides: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train a baseline on the prompts of a finished run and evaluate it on the same held-out prompts.

    It takes as many optimizer steps as that run, with the same adapter, schedule and λ unless overridden. The same
    parameters again continue an unfinished baseline.

    Args:
        source: The finished run that it is compared with.
        method: `sft`, `rrhf`, `pro`; `dpo` and `rl` (REINFORCE leave-one-out with PPO's clipped ratio) need the extra
            `baselines`.
        run: The baseline's name.
        overrides: Settings laid over the source's, nested: `{"training": {"learning_rate": 0.001}}`.
    """
    if method in BY_TRL:
        require_extra("trl", "baselines")
    context, new = open_baseline(source, method, run, overrides or {})
    if is_done(context):
        with holding(context):
            return publish_report(context)
    say(f"Run {run}, the {method} baseline of {source}: " + ("new" if new else "continues"))
    with running(context):
        prepared = get_ready(context)
        finish(context, prepared, train_and_respond(context, method, prepared))
        return publish_report(context)


def train_and_respond(context: RunContext, method: runs.Baseline, prepared: Prepared) -> tuple[Part, ...]:
    """Respond to the held-out prompts, train, respond again; returns the responses' parts."""
    with loaded_white_box(context, prepared) as white_box:
        before = respond_as(context, white_box, prepared.evaluation, role="before")
        learn(context, method, white_box, prepared)
        save_adapter(context, white_box)
        return before + respond_as(context, white_box, prepared.evaluation, role="after")
