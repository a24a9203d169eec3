"""The pairwise judge: a chat-completions model compares the run's responses with others' (Paper: Section 3.2, Table 2).

Both orders by default; disagreement is a tie and counted as inconsistent (`comparison_outcomes` in the schema).
Responses with the same text are a tie without asking. A verdict that cannot be had is recorded as missing with its
reason, never dropped. Leaves out the prompt (`cyclealign.method.comparison_prompt`) and the figures
(`cyclealign.report`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from cyclealign.black_box.capabilities import body_of, parameters_for
from cyclealign.method.comparison_prompt import Verdict, read_comparison_answer, render_comparison_prompt, wording
from cyclealign.records import ChatReply, Prompt
from cyclealign.reward_models.reward_model import RewardModel
from cyclealign.seeds import derive_seed
from cyclealign.settings import BlackBoxSettings
from storage import comparisons, evaluations
from storage.comparisons import Comparison
from storage.evaluations import Generation
from storage.ledger import Ledger
from tasks.asking.protocol import Account, account
from tasks.asking.questions import Asker, Question, Slot, asker_of
from tasks.context import RunContext
from tasks.cycle.progress import Report, say, stage
from tasks.evaluation.responders import EVALUATION_SEED
from tasks.models import comparison_endpoint, comparison_settings

OURS = "after"
"""The system whose wins are counted: the run's own trained model."""
JUDGE_CAP = "evaluation.judge.endpoint.budget_usd"
IDENTICAL = "identical responses"


@dataclass(frozen=True)
class Pair:
    """Two systems' responses to a prompt, in the order in which the judge sees them."""

    prompt: Prompt
    first: Generation
    second: Generation

    @property
    def identical(self) -> bool:
        """Whether there is nothing to choose between."""
        return self.first.text == self.second.text


@dataclass(frozen=True)
class Match:
    """Our system and another one on the prompts of one subset, before one judge."""

    against: str
    subset: str
    judge: str
    """Its identity, see `judge_identity`."""
    pairs: tuple[tuple[Pair, ...], ...]
    """Of each prompt, in each order that the judge sees."""

    def missing(self, ledger: Ledger) -> list[list[Pair]]:
        """The pairs without a verdict, those of a prompt together: their verdicts are committed together."""
        known = comparisons.found(ledger, [self._id(pair) for pairs in self.pairs for pair in pairs])
        settled = {key for key, one in known.items() if one.verdict != "missing"}
        left = ([pair for pair in pairs if self._id(pair) not in settled] for pairs in self.pairs)
        return [pairs for pairs in left if pairs]

    def _id(self, pair: Pair) -> str:
        return comparisons.comparison_id(pair.first.generation_id, pair.second.generation_id, self.judge)


def judge_identity(judge: Account) -> str:
    """Model, endpoint, and a digest of the parameters and the prompt's wording: all that decides a verdict."""
    parameters = parameters_for(judge.settings, None)
    text = json.dumps([parameters, judge.settings.seed, wording()], sort_keys=True)
    return f"{judge.settings.model} ({judge.origin}, {hashlib.sha256(text.encode()).hexdigest()[:8]})"


def compare_systems(context: RunContext, beside: RewardModel, prompts: Sequence[Prompt], others: Sequence[str]) -> None:
    """Have the judge compare the run's trained model with each of the other roles, subset by subset.

    Args:
        context: The run.
        beside: The reward model whose opinion an offline judge holds.
        prompts: On which they are compared.
        others: The roles.

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    settings, open_endpoint = comparison_endpoint(comparison_settings(context.settings), beside, prompts)
    judge = account(context, settings, open_endpoint, JUDGE_CAP)
    subsets, identity = context.settings.data.subsets, judge_identity(judge)
    matches = {
        against: [_match(context, identity, prompts, against, subset) for subset in subsets] for against in others
    }
    with asker_of(judge, context.settings.evaluation.batches) as asker:
        missing = (one for parts in matches.values() for match in parts for one in match.missing(context.ledger))
        asker.ask_ahead([_question(judge.settings, pair) for pairs in missing for pair in pairs if not pair.identical])
        for against, parts in matches.items():
            with stage(f"Comparison {OURS} / {against}, by {judge.settings.model}") as report:
                counts = [play(match, asker, report) for match in parts if match.pairs]
            total = sum(counts, Counter[str]())
            say(
                f"  {total['asked']} verdicts asked for, {total['reused']} reused, {total['identical']} ties of "
                f"identical responses, {total['missing']} missing"
            )


def _match(context: RunContext, judge: str, prompts: Sequence[Prompt], against: str, subset: str) -> Match:
    here, both = [one for one in prompts if one.subset == subset], context.settings.evaluation.judge.order == "both"
    ours, theirs = _responses(context, OURS, here), _responses(context, against, here)
    pairs = [
        pairs_of(one, ours[one.prompt_id], theirs[one.prompt_id], both)
        for one in here
        if one.prompt_id in ours and one.prompt_id in theirs
    ]
    return Match(against, subset, judge, tuple(pairs))


def _responses(context: RunContext, role: str, prompts: Sequence[Prompt]) -> dict[str, Generation]:
    """A role's responses by prompt id."""
    system = evaluations.run_systems(context.ledger, context.name)[role]
    ids = [evaluations.generation_id(system.system_id, one.prompt_id, system.generation_digest) for one in prompts]
    return {one.prompt_id: one for one in evaluations.generations(context.ledger, ids).values()}


def pairs_of(prompt: Prompt, response: Generation, against: Generation, both: bool) -> tuple[Pair, ...]:
    """Both orders of two responses, or one that a seed draws."""
    pairs = [Pair(prompt, response, against), Pair(prompt, against, response)]
    # the judge sees two responses in the same order whichever of their systems is named first
    pairs.sort(key=lambda pair: pair.first.generation_id)
    seed = derive_seed(EVALUATION_SEED, "comparison", *(pair.first.generation_id for pair in pairs))
    return tuple(pairs) if both else (pairs[seed % 2],)


def _match_name() -> str:
    match: Match = task_run.parameters["match"]
    return f"compare {OURS} {match.against} {match.subset}"


@task(task_run_name=_match_name, cache_policy=NO_CACHE)
def play(match: Match, asker: Asker, report: Report) -> Counter[str]:
    """Ask for the verdicts that are missing, a portion of prompts at a time, each portion committed.

    Returns how many verdicts were asked for, reused, settled because the responses are identical, and missing now.

    Raises:
        RunPaused: no call gets through, or the cap is reached.
    """
    count = Counter(reused=sum(map(len, match.pairs)))
    for some, done in asker.portions(match.missing(asker.account.ledger)):
        found = _compare(match, asker, [pair for pairs in some for pair in pairs])
        count += Counter(
            asked=sum(one.call_key is not None for one in found),
            identical=sum(one.reason == IDENTICAL for one in found),
            missing=sum(one.verdict == "missing" for one in found),
        )
        count["reused"] -= len(found)
        report(match.subset, done)
    return count


def _compare(match: Match, asker: Asker, pairs: Sequence[Pair]) -> list[Comparison]:
    found = [_comparison(match, pair, "tie", IDENTICAL) for pair in pairs if pair.identical]
    differing = [pair for pair in pairs if not pair.identical]
    results = asker.ask([_question(asker.account.settings, pair) for pair in differing])
    for pair, result in zip(differing, results, strict=True):
        found.append(_comparison(match, pair, result.answer or "missing", result.reason, result.call_key))
    asker.account.ledger.record(*found)
    return found


def _comparison(
    match: Match, pair: Pair, verdict: comparisons.Verdict, reason: str | None, call_key: str | None = None
) -> Comparison:
    ids = (pair.first.generation_id, pair.second.generation_id)
    return Comparison(*ids, match.judge, "model", verdict, reason, call_key)


def _question(settings: BlackBoxSettings, pair: Pair) -> Question[Verdict]:
    def request(ask: int) -> tuple[dict[str, Any], Slot]:
        text = render_comparison_prompt(pair.prompt.instruction, pair.first.text, pair.second.text)
        seed = derive_seed(EVALUATION_SEED, "comparison", ask)
        # the texts are in the call's key: the same question is bought once, whichever runs and systems meet in it
        return body_of(settings, text, seed), ("comparison", EVALUATION_SEED, ask)

    def read(reply: ChatReply, _ask: int) -> Verdict:
        return read_comparison_answer(reply.content, reply.finish_reason, reply.refusal)

    return Question("comparison", request, read, settings.asks)
