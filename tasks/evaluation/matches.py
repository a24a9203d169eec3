"""Which systems the pairwise judge compares, and with whom the judge is one and the same (Paper: Table 2).

Leaves out the asking (`tasks.evaluation.comparison`).
"""

from collections.abc import Sequence

from cyclealign.records import Prompt
from cyclealign.reward_models.reward_model import RewardModel
from storage import evaluations
from storage.evaluations import Generation
from tasks.asking.batching import channel_for
from tasks.asking.channels import JUDGE_CAP, Account, account, tell_cost
from tasks.context import RunContext
from tasks.cycle.progress import say, stage
from tasks.evaluation.comparison import Match, MatchCount, Pair, judge_identity, open_questions, play
from tasks.models import comparison_endpoint, comparison_settings

OURS = "after"
"""The system whose wins are counted: the run's own trained model."""


def judge_account(context: RunContext, scoring: Sequence[RewardModel], prompts: Sequence[Prompt]) -> Account:
    """The run's account with its pairwise judge.

    Raises:
        UsageError: the profile names no judge.
    """
    settings, open_endpoint = comparison_endpoint(comparison_settings(context.settings), scoring[0], prompts)
    return account(context, settings, open_endpoint, JUDGE_CAP)


def compare_systems(context: RunContext, judge: Account, prompts: Sequence[Prompt], others: Sequence[str]) -> None:
    """Have the judge compare the run's trained model with each of the other roles, subset by subset.

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    channel = channel_for(judge, context.settings.evaluation.batches)
    matches = {
        against: [_match(context, judge, prompts, against, subset) for subset in context.settings.data.subsets]
        for against in others
    }
    questions = open_questions([match for parts in matches.values() for match in parts])
    tell_cost(judge, questions, channel.price_share, judge.settings.asks)
    if channel.portion is None:  # it is the better the more it carries; each match finds its answers recorded
        channel.outcomes(questions)
    for against, parts in matches.items():
        with stage(f"Comparison {OURS} / {against}, by {judge.settings.model}") as report:
            counts = [play(match, channel, report) for match in parts if match.pairs]
        _tell(counts)


def _match(context: RunContext, judge: Account, prompts: Sequence[Prompt], against: str, subset: str) -> Match:
    here = [prompt for prompt in prompts if prompt.subset == subset]
    ours, theirs = _responses(context, OURS, here), _responses(context, against, here)
    both = [prompt for prompt in here if prompt.prompt_id in ours and prompt.prompt_id in theirs]
    return Match(
        ledger=context.ledger,
        system=OURS,
        against=against,
        subset=subset,
        pairs=tuple(Pair(one, ours[one.prompt_id], theirs[one.prompt_id]) for one in both),
        settings=judge.settings,
        judge=judge_identity(judge),
        both_orders=context.settings.evaluation.judge.order == "both",
    )


def _responses(context: RunContext, role: str, prompts: Sequence[Prompt]) -> dict[str, Generation]:
    """A role's responses by prompt id."""
    system = evaluations.run_systems(context.ledger, context.name)[role]
    ids = [evaluations.generation_id(system.system_id, one.prompt_id, system.generation_digest) for one in prompts]
    return {one.prompt_id: one for one in evaluations.generations(context.ledger, ids).values()}


def _tell(counts: Sequence[MatchCount]) -> None:
    asked, reused = sum(one.asked for one in counts), sum(one.reused for one in counts)
    identical, missing = sum(one.identical for one in counts), sum(one.missing for one in counts)
    say(f"  {asked} verdicts asked for, {reused} reused, {identical} ties of identical responses, {missing} missing")
