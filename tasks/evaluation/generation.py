"""The evaluation: systems' responses to held-out prompts, and what reward models say of them.

Whatever the ledger has is reused: a generation is known by its system, prompt and generation settings, a reward by
its generation and reward model. The draws do not depend on the run's seed, so runs are compared on the same prompts
with the same luck.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.compared_systems import OWN_ROLES
from cyclealign.records import Prompt
from cyclealign.reward_models.reward_model import RewardModel, rewards_of
from cyclealign.settings import EvaluationSettings, fields_of
from cyclealign.white_box.white_box import WhiteBox
from storage import evaluations
from storage.evaluations import RunSystem, System
from tasks.context import RunContext
from tasks.cycle.progress import Report, say, stage
from tasks.evaluation.responders import EVALUATION_SEED, Responder, WhiteBoxResponder


@dataclass(frozen=True)
class Part:
    """One system on the prompts of one subset, in a run."""

    context: RunContext
    system: System
    subset: str
    prompts: tuple[Prompt, ...]

    def generation_ids(self) -> dict[str, str]:
        """The generation id of each prompt id."""
        digest = evaluations.generation_digest(generation_settings(self.context.settings.evaluation))
        return {
            one.prompt_id: evaluations.generation_id(self.system.system_id, one.prompt_id, digest)
            for one in self.prompts
        }

    def missing(self) -> list[Prompt]:
        """The prompts that have no generation of this system under the run's generation settings yet."""
        ids = self.generation_ids()
        known = evaluations.generations(self.context.ledger, list(ids.values()))
        return [prompt for prompt in self.prompts if ids[prompt.prompt_id] not in known]


def respond_as(context: RunContext, white_box: WhiteBox, prompts: Sequence[Prompt], role: str) -> tuple[Part, ...]:
    """Responses of the white box as it is now, in its role `before` or `after`."""
    responder = WhiteBoxResponder(white_box, trained=role != "before", evaluation=context.settings.evaluation)
    return respond(context, responder, prompts, role)


def respond(context: RunContext, responder: Responder, prompts: Sequence[Prompt], role: str) -> tuple[Part, ...]:
    """Have a system respond to the prompts, under a role of the run's evaluation; returns what can be scored.

    What the ledger has of it, from whatever run, is reused. Systems whose responses were generated under other
    settings leave the evaluation, which holds only what can be compared.
    """
    system = System(label=role, identity=responder.identity)
    settings = generation_settings(context.settings.evaluation)
    context.ledger.record(system)
    run_system = RunSystem(context.name, role, system.system_id, evaluations.generation_digest(settings))
    gone = [
        one
        for one in evaluations.put_run_system(context.ledger, run_system)
        if one not in OWN_ROLES  # those are evaluated every time
    ]
    if gone:
        say(f"  Left out until evaluated under these generation settings: {', '.join(gone)}")
    parts = [
        Part(context, system, subset, tuple(one for one in prompts if one.subset == subset))
        for subset in context.settings.data.subsets
    ]
    with stage(f"Evaluation {role}: {len(prompts)} held-out prompts") as report:
        responder.ask_ahead([prompt for part in parts for prompt in part.missing()])
        made = sum(generate_part(part, responder, report) for part in parts if part.prompts)
    _tell(parts, made)
    return tuple(part for part in parts if part.prompts)


def _tell(parts: Sequence[Part], made: int) -> None:
    total, without = sum(len(part.prompts) for part in parts), sum(len(part.missing()) for part in parts)
    say(f"  {made} responses generated, {total - made - without} reused")
    if without:
        say(f"  {without} of {total} prompts have no response; it stays out of the averages, which show their n")


def score(parts: Sequence[Part], scoring: Sequence[RewardModel]) -> None:
    """Score the responses; rewards that the ledger has are reused."""
    responses = sum(len(part.prompts) for part in parts)
    with stage(f"Rewards: {len(scoring)} for each of {responses} responses") as report:
        computed = 0
        for number, part in enumerate(parts):
            report(f"{part.system.label} {part.subset}", number / len(parts))
            computed += score_part(part, scoring)
    say(f"  {computed} rewards computed, {responses * len(scoring) - computed} reused")


def generation_settings(evaluation: EvaluationSettings) -> dict[str, Any]:
    """What identifies a generation besides its system and prompt."""
    return {**fields_of(evaluation.sampling, operational=False), "seed": EVALUATION_SEED}


def _generation_name() -> str:
    part: Part = task_run.parameters["part"]
    return f"generate {part.system.label} {part.subset}"


@task(task_run_name=_generation_name, cache_policy=NO_CACHE)
def generate_part(part: Part, responder: Responder, report: Report) -> int:
    """Have the missing responses written batch by batch, each batch committed; returns how many were written.

    Raises:
        RunPaused: an endpoint lets no call through, or the cap is reached.
    """
    missing, made = part.missing(), 0
    settings = generation_settings(part.context.settings.evaluation)
    for written in responder.batches(missing, part.system.system_id, settings) if missing else ():
        part.context.ledger.record(*written)
        made += len(written)
        report(part.subset, made / len(missing))
    return made


def _scoring_name() -> str:
    part: Part = task_run.parameters["part"]
    return f"score {part.system.label} {part.subset}"


@task(task_run_name=_scoring_name, cache_policy=NO_CACHE)
def score_part(part: Part, scoring: Sequence[RewardModel]) -> int:
    """Score what is missing with every reward model; returns how many rewards were computed."""
    ledger, by_id = part.context.ledger, {prompt.prompt_id: prompt for prompt in part.prompts}
    texts = evaluations.generations(ledger, list(part.generation_ids().values()))
    computed = 0
    for reward_model in scoring:
        known = evaluations.reward_scores(ledger, reward_model.identity, list(texts))
        missing = {key: one for key, one in texts.items() if key not in known}
        rewards = rewards_of(reward_model, [(by_id[one.prompt_id], one.text) for one in missing.values()])
        evaluations.put_reward_scores(ledger, reward_model.identity, dict(zip(missing, rewards, strict=True)))
        computed += len(missing)
    return computed
