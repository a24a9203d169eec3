"""Rewards of the recorded candidates: what the rankings are held against (Paper: Figure 4).

They come from the evaluation's reward models and change nothing in the cycle. A segment's candidates are scored
together, so that the batches, and with them the last bits, do not depend on when that happens.
"""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.records import Prompt
from cyclealign.reward_models.reward_model import RewardModel, rewards_of
from storage import response_rewards
from storage.rounds import SampledRound
from tasks.context import RunContext
from tasks.cycle.progress import stage
from tasks.cycle.segments import Segment, segments

BATCH = 96
"""Candidates that are scored together."""


def score_candidates(context: RunContext, prompts: Sequence[Prompt], scoring: Sequence[RewardModel]) -> None:
    """Score the candidates of all segments that are not scored yet."""
    whole = segments(context.settings, len(prompts))
    with stage("Ranking accuracy: rewards of the recorded candidates") as report:
        for number, segment in enumerate(whole):
            if any(_unscored(context, segment, reward_model) for reward_model in scoring):
                score_segment(context, prompts, scoring, segment)
            report(segment.name, (number + 1) / len(whole))


def _name() -> str:
    segment: Segment = task_run.parameters["segment"]
    return f"score candidates, {segment.name}"


@task(name="score candidates", task_run_name=_name, cache_policy=NO_CACHE)
def score_segment(
    context: RunContext, prompts: Sequence[Prompt], scoring: Sequence[RewardModel], segment: Segment
) -> float | None:
    """Score a segment's candidates where they are not; returns their mean reward by the first reward model."""
    for reward_model in scoring:
        rounds = _unscored(context, segment, reward_model)
        texts = [(prompts[one.step], response.text) for one in rounds for response in one.responses]
        rewards = iter(
            [
                reward
                for start in range(0, len(texts), BATCH)
                for reward in rewards_of(reward_model, texts[start : start + BATCH])
            ]
        )
        found = [[next(rewards) for _ in one.responses] for one in rounds]
        response_rewards.put(context.ledger, reward_model.identity, rounds, found)
    return response_rewards.mean(context.ledger, context.name, scoring[0].identity, segment.first, segment.last)


def _unscored(context: RunContext, segment: Segment, reward_model: RewardModel) -> list[SampledRound]:
    return response_rewards.unscored(context.ledger, context.name, reward_model.identity, segment.first, segment.last)
