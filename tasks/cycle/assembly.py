"""The live parts of a run's cycle, put together where the last checkpoint left them, and taken apart again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext

from cyclealign.black_box.capabilities import parameters_for
from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.failures import AGAIN
from cyclealign.black_box.prices import Prices
from cyclealign.errors import EndpointRefused
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION, DemonstrationPool
from cyclealign.offline.world import GroundTruth
from cyclealign.records import Prompt
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.ranks import white_box_alone, white_box_of_ranks
from cyclealign.white_box.white_box import WhiteBox
from storage import calls, resumptions, rounds, runs
from storage.rounds import SampledRound, StaticDemonstration
from tasks.asking.protocol import account
from tasks.asking.questions import asker_of
from tasks.context import RunContext
from tasks.cycle.checkpointing import go_back
from tasks.cycle.loop import Cycle
from tasks.cycle.progress import Progress, say
from tasks.cycle.sampling_server import sampling_by
from tasks.doctor import listens
from tasks.estimating import announce
from tasks.models import key_variables, ranking_endpoint, reward_models, white_box_path
from tasks.preparation import Prepared


@dataclass(frozen=True)
class Assembly:
    """What `flows.train` works with: the cycle, what scores its candidates meanwhile, the step to start at."""

    cycle: Cycle
    scoring: Sequence[RewardModel]
    """Empty where all rewards are left to the end."""
    start: int


@contextmanager
def assemble(context: RunContext, prepared: Prepared) -> Iterator[Assembly]:
    """Load the models, go back to the last checkpoint, get ready to ask the black box.

    Raises:
        ModelError: a model cannot be loaded.
    """
    settings = context.settings
    with loaded_white_box(context, prepared) as white_box:
        start = go_back(context, white_box)
        calls.close_orphans(context.ledger, context.name)
        context.ledger.record(StaticDemonstration(context.name, STATIC_DEMONSTRATION))
        announce(context, prepared.training)
        black_box = ranking_endpoint(settings, context.home, prepared.stand_ins)
        with asker_of(account(context, settings.black_box_of_the_cycle(), black_box)) as asker:
            cycle = Cycle(
                ledger=context.ledger,
                run_name=context.name,
                settings=settings,
                prompts=prepared.training,
                white_box=white_box,
                ask=asker.submit,
                pool=demonstration_pool(context, start),
                progress=make_progress(context, prepared.training),
                resumption=resumptions.begin(context.ledger, context.name, start),
            )
            yield Assembly(cycle, scoring_meanwhile(context, prepared), start)


def require_black_box(context: RunContext) -> None:
    """Price, key and endpoint are tried before anything is built or loaded; a run whose steps are done needs none.

    Raises:
        UsageError: there is a cap and no known price, or a parameter is set that the model does not take.
        RunPaused: the endpoint has no key, or nobody listens there.
    """
    status, black_box = runs.status(context.ledger, context.name)[0], context.settings.black_box
    Prices(black_box).require_price()
    parameters_for(black_box, None)
    if status.step == status.steps or black_box.endpoint != "api":
        return
    ChatEndpoint(black_box).require_key()
    there = listens("black box", black_box.base_url)
    if there.bad:
        raise EndpointRefused(
            f"The endpoint {black_box.base_url} does not answer: {there.found}. {there.todo} {AGAIN}", kind="connection"
        )
    calls.close_orphans(context.ledger, context.name)
    with asker_of(account(context, black_box, lambda: ChatEndpoint(black_box))) as asker:
        asker.try_out()


@contextmanager
def loaded_white_box(context: RunContext, prepared: Prepared) -> Iterator[WhiteBox]:
    """The white box under a new adapter, ready to be trained, on as many ranks as the settings say.

    Raises:
        ModelError: the model cannot be loaded.
        RankLost: another rank failed or died.
    """
    settings = context.settings
    path = white_box_path(settings, context.home, prepared.stand_ins)
    recipe = Recipe(settings.white_box, settings.training, settings.method, settings.seed, path)
    if settings.training.ranks == 1:
        with white_box_alone(recipe) as white_box:
            yield sampling_by(settings, white_box)
        return
    with white_box_of_ranks(recipe, key_variables(settings)) as shared:
        processes = ", ".join(str(one.process.pid) for one in shared.ranks.followers)
        say(f"  White box on {settings.training.ranks} ranks: this process and {processes}")
        if idle := settings.training.idle_ranks():
            say(
                f"  {idle} of them have no example of an optimizer step: raise training.prompts_per_optimizer_step and "
                "training.wave"
            )
        yield sampling_by(settings, shared)


def demonstration_pool(context: RunContext, start: int) -> DemonstrationPool:
    """The pool as it was before step `start`."""
    method = context.settings.method
    admitted = rounds.demonstrations(context.ledger, context.name, before_step=start)
    return DemonstrationPool(method.icl, method.demonstration_capacity, method.demonstration_scope, admitted)


def make_progress(context: RunContext, prompts: Sequence[Prompt]) -> Progress:
    """The run's progress: on the terminal, in the log, and on the run page when a flow runs it."""
    return Progress(
        steps=len(prompts),
        candidates=context.settings.method.candidates,
        quality=grader(prompts) if context.settings.data.source == "world" else None,
        spend=lambda: calls.spend(context.ledger, context.name),
        publish=progress_artifact(context.name),
    )


def scoring_meanwhile(context: RunContext, prepared: Prepared) -> Sequence[RewardModel]:
    """The evaluation's reward models where they score during the training, for the eye alone."""
    if not context.settings.evaluation.reward_model_beside:
        return ()
    return reward_models(context.settings, context.home, prepared.stand_ins)


def grader(prompts: Sequence[Prompt]) -> Callable[[SampledRound], float]:
    """The world's ground truth of a round's candidates: for the eye alone, nothing in the run reads it."""
    truth = GroundTruth("quality")

    def quality(sampled: SampledRound) -> float:
        grades = truth.score([(prompts[sampled.step], one.text) for one in sampled.responses])
        return sum(grades) / len(grades)

    return quality


def progress_artifact(run_name: str) -> Callable[[str, float], None] | None:
    """Keeps one progress artifact of the flow run up to date; None outside a flow run."""
    if FlowRunContext.get() is None:
        return None
    artifact_id = create_progress_artifact(progress=0.0, key="cycles", description=f"{run_name}: starting")
    assert isinstance(artifact_id, UUID)  # noqa: S101  a coroutine only where a loop is running

    def publish(state: str, share: float) -> None:
        update_progress_artifact(artifact_id, progress=100 * share, description=f"{run_name}: {state}")

    return publish
