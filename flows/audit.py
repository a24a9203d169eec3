"""Ask a share of a run's recorded rankings again in another order: how far the black box heeds the texts alone."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from storage import calls
from tasks.asking.protocol import account
from tasks.asking.questions import asker_of
from tasks.context import holding
from tasks.evaluation.audit import audit_rankings
from tasks.evaluation.publication import publish_audit
from tasks.evaluation.systems import evaluated_run
from tasks.models import ranking_endpoint
from tasks.preparation import prepare


@flow(name="cyclealign", flow_run_name="audit {run}", validate_parameters=True)
def audit(
    run: str, share: Annotated[float, Field(gt=0, le=1)] = 0.1, seed: int = 0, overrides: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Audit the model that ranked in a run; what was asked again already is reused.

    Args:
        run: The run's name; its rounds are not changed.
        share: Of its recorded rankings.
        seed: Which ones, and in which orders.
        overrides: How calls are made, nested: `{"black_box": {"budget_usd": 10}}`.
    """
    context = evaluated_run(run, overrides or {})
    with holding(context):
        calls.close_orphans(context.ledger, run)
        prepared = prepare(context)
        open_endpoint = ranking_endpoint(context.settings, context.home, prepared.stand_ins)
        with asker_of(account(context, context.settings.black_box, open_endpoint)) as asker:
            audit_rankings(context, asker, share, seed)
        return publish_audit(context)
