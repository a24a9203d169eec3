"""Evaluate a run's model before and after again: what is missing is computed, everything else is reused."""

from typing import Any

from prefect import flow

from cyclealign.models.white_box import WhiteBox
from tasks.context import existing_run
from tasks.evaluation import evaluate_system
from tasks.models import reward_models, white_box_path
from tasks.preparation import prepare
from tasks.publication import adapter_of, publish_report


@flow(name="cyclealign", flow_run_name="evaluate {run}", validate_parameters=True)
def evaluate(run: str) -> dict[str, Any]:
    """Generate and score what is missing of a finished run's first evaluation, then publish its report again.

    Args:
        run: The run's name.
    """
    context = existing_run(run)
    prepared = prepare(context)
    scoring = reward_models(context.settings, context.home, prepared.stand_ins)
    path = white_box_path(context.settings, context.home, prepared.stand_ins)
    for role, adapter in (("before", None), ("after", adapter_of(context))):
        white_box = WhiteBox.load_for_inference(context.settings.white_box, model_path=path, adapter=adapter)
        evaluate_system(context, white_box, scoring, prepared.evaluation, role)
    return publish_report(context)
