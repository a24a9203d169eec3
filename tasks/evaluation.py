"""The first evaluation: a system's responses to held-out prompts, and what reward models say of them.

Whatever the ledger has is reused: a generation is known by its system, prompt and generation settings, a reward by
its generation and reward model. The draws do not depend on the run's seed, so runs are compared on the same prompts
with the same luck.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.models.reward_model import RewardModel
from cyclealign.models.white_box import WhiteBox
from cyclealign.records import Prompt, Response
from cyclealign.seeds import derive_seed
from cyclealign.settings import EvaluationSettings
from cyclealign.statistics import repeated_ngram_share
from storage import evaluations, response_rewards
from storage.evaluations import Generation, RunSystem, System
from tasks.context import RunContext
from tasks.progress import Report, say, stage

EVALUATION_SEED = 0


def evaluate_system(
    context: RunContext, white_box: WhiteBox, scoring: Sequence[RewardModel], prompts: Sequence[Prompt], role: str
) -> None:
    """Generate and score the responses of the white box as it is now, in its role `before` or `after`."""
    adapter = None if role == "before" else white_box.weights_sha256()
    system = System(label=role, identity={**white_box.description, "adapter": adapter})
    settings = generation_settings(context.settings.evaluation)
    evaluations.put_system(context.ledger, system)
    evaluations.put_run_system(
        context.ledger, context.name, RunSystem(role, system.system_id, evaluations.generation_digest(settings))
    )
    by_subset = {subset: [one for one in prompts if one.subset == subset] for subset in context.settings.data.subsets}
    with stage(f"Evaluation {role}: {len(prompts)} held-out prompts") as report:
        made = sum(
            generate_subset(context, white_box, system, part, subset, report)
            for subset, part in by_subset.items()
            if part
        )
        scored = sum(score_subset(context, scoring, system, part, subset) for subset, part in by_subset.items() if part)
    say(f"  {made} responses generated, {len(prompts) - made} reused; {scored} rewards computed")


def generation_settings(evaluation: EvaluationSettings) -> dict[str, Any]:
    """What identifies a generation besides its system and prompt."""
    return {**evaluation.sampling.model_dump(), "seed": EVALUATION_SEED}


def _generation_name() -> str:
    parameters: Mapping[str, Any] = task_run.parameters
    return f"generate {parameters['system'].label} {parameters['subset']}"


@task(task_run_name=_generation_name, cache_policy=NO_CACHE)
def generate_subset(
    context: RunContext,
    white_box: WhiteBox,
    system: System,
    prompts: Sequence[Prompt],
    subset: str,
    report: Report,
) -> int:
    """Generate what is missing of one subset, in length-sorted batches, each committed; returns how many."""
    evaluation = context.settings.evaluation
    missing = sorted(missing_prompts(context, system, prompts), key=lambda prompt: len(prompt.instruction))
    settings = generation_settings(evaluation)
    for start in range(0, len(missing), evaluation.batch):
        batch = missing[start : start + evaluation.batch]
        clock = time.monotonic()
        seeds = [derive_seed(EVALUATION_SEED, "evaluate", prompt.prompt_id) for prompt in batch]
        drawn = white_box.sample(batch, seeds, 1, evaluation.sampling)
        seconds = (time.monotonic() - clock) / len(batch)
        evaluations.put_generations(
            context.ledger,
            [
                generation(system, prompt, settings, responses[0], seconds)
                for prompt, responses in zip(batch, drawn, strict=True)
            ],
        )
        report(subset, (start + len(batch)) / len(missing))
    return len(missing)


def missing_prompts(context: RunContext, system: System, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that have no generation of this system under the run's generation settings yet."""
    ids = generation_ids(context, system, prompts)
    known = evaluations.generations(context.ledger, list(ids.values()))
    return [prompt for prompt in prompts if ids[prompt.prompt_id] not in known]


def generation_ids(context: RunContext, system: System, prompts: Sequence[Prompt]) -> dict[str, str]:
    """The generation id of each prompt id."""
    digest = evaluations.generation_digest(generation_settings(context.settings.evaluation))
    return {one.prompt_id: evaluations.generation_id(system.system_id, one.prompt_id, digest) for one in prompts}


def generation(
    system: System, prompt: Prompt, settings: Mapping[str, Any], response: Response, seconds: float
) -> Generation:
    """The record of one response."""
    return Generation(
        system_id=system.system_id,
        prompt_id=prompt.prompt_id,
        settings=settings,
        text=response.text,
        tokens=len(response.tokens),
        ended=response.ended,
        repeated_4grams=repeated_ngram_share(response.tokens, 4),
        seconds=seconds,
    )


def _scoring_name() -> str:
    parameters: Mapping[str, Any] = task_run.parameters
    return f"score {parameters['system'].label} {parameters['subset']}"


@task(task_run_name=_scoring_name, cache_policy=NO_CACHE)
def score_subset(
    context: RunContext, scoring: Sequence[RewardModel], system: System, prompts: Sequence[Prompt], subset: str
) -> int:
    """Score what is missing of one subset with every reward model; returns how many rewards were computed."""
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    ids = generation_ids(context, system, prompts)
    texts = evaluations.generations(context.ledger, list(ids.values()))
    computed = 0
    for reward_model in scoring:
        known = evaluations.reward_scores(context.ledger, reward_model.identity, list(texts))
        missing = {key: one for key, one in texts.items() if key not in known}
        rewards = reward_model.score([(by_id[one.prompt_id], one.text) for one in missing.values()])
        evaluations.put_reward_scores(
            context.ledger, reward_model.identity, dict(zip(missing, rewards, strict=True))
        )
        computed += len(missing)
    return computed


@task(name="score candidates", cache_policy=NO_CACHE)
def score_candidates(context: RunContext, prompts: Sequence[Prompt], scoring: Sequence[RewardModel]) -> int:
    """Score the recorded candidates, so that rankings can be held against the rewards' order (Paper: Figure 4)."""
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    computed = 0
    with stage("Ranking accuracy: rewards of the recorded candidates") as report:
        for number, reward_model in enumerate(scoring):
            candidates = response_rewards.unscored(context.ledger, context.name, reward_model.identity)
            for start in range(0, len(candidates), 96):
                part = candidates[start : start + 96]
                rewards = reward_model.score([(by_id[one.prompt_id], one.text) for one in part])
                response_rewards.put(
                    context.ledger, context.name, reward_model.identity, dict(zip(part, rewards, strict=True))
                )
                report(reward_model.identity, (number + (start + len(part)) / len(candidates)) / len(scoring))
            computed += len(candidates)
    return computed
