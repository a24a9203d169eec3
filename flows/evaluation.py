"""Evaluate a run's model and others beside it: what is missing is computed, everything else is reused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from cyclealign.compared_systems import ComparedSystem
from cyclealign.white_box.white_box import WhiteBox
from storage import calls
from tasks.context import RunContext, holding
from tasks.cycle.sampling_server import sampling_by
from tasks.evaluation.comparison import compare_systems
from tasks.evaluation.generation import Part, respond, respond_as, score
from tasks.evaluation.publication import adapter_of, publish_exhibits, publish_report
from tasks.evaluation.systems import check_judge, check_systems, evaluated_run, responder_of
from tasks.models import require_reward_model, reward_models, white_box_path
from tasks.preparation import Prepared, prepare


@flow(name="cyclealign", flow_run_name="evaluate {run}", validate_parameters=True)
def evaluate(
    run: str, systems: list[ComparedSystem] | None = None, judge: bool = False, overrides: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Generate, score and compare what is missing of a finished run's evaluation, then publish its report again.

    Args:
        run: The run's name; its own model is evaluated before and after training.
        systems: Other runs, backbones or API models, each under a label.
        judge: Whether the pairwise judge compares the trained model with each of the others.
        overrides: Settings of the evaluation, nested: `{"evaluation": {"prompts_per_subset": 20}}`.
    """
    context, others = evaluated_run(run, overrides or {}), systems or []
    trained = adapter_of(context)
    check_systems(context, others)
    if judge:
        check_judge(context)
    with holding(context):
        calls.close_orphans(context.ledger, run)
        prepared = prepare(context)
        require_reward_model(context.settings)
        responses = respond_all(context, prepared, trained, others)
        scoring = reward_models(context.settings, context.home, prepared.stand_ins)
        score(responses, scoring)
        if judge:
            labels = ["before", *(system.label for system in others)]
            compare_systems(context, scoring[0], prepared.evaluation, labels)
        publish_exhibits(context.ledger, ("table-1", "table-2", "table-5", "figure-4"), run)
        return publish_report(context)


def respond_all(context: RunContext, prepared: Prepared, trained: Path, others: Sequence[ComparedSystem]) -> list[Part]:
    """The responses of the run's model before and after, and of the others; one model is in memory at a time."""
    path, parts = white_box_path(context.settings, context.home, prepared.stand_ins), list[Part]()
    for role, adapter in (("before", None), ("after", trained)):
        white_box = WhiteBox.load_for_inference(context.settings.white_box, model_path=path, adapter=adapter)
        parts += respond_as(context, sampling_by(context.settings, white_box), prepared.evaluation, role)
        del white_box
    for system in others:
        with responder_of(context, system, prepared.stand_ins) as responder:
            parts += respond(context, responder, prepared.evaluation, system.label)
        del responder
    return parts
