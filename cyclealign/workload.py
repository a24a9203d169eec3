"""How many rows and tokens are in a device's hands at once, by the settings: of a wave, a batch, an optimizer step.

Prompts and responses count at their longest. Called by `estimated_memory` and `estimated_hours`; leaves out bytes and
seconds.
"""

from typing import Final

from cyclealign.data.hh_rlhf import TABLE_6
from cyclealign.settings import Settings

OWN_SYSTEMS: Final = 2
"""Whose responses a run's evaluation holds: the white box before and after."""


def example_tokens(settings: Settings) -> tuple[int, int]:
    """Prompt tokens and response tokens of one training example; the prompt is run once for all responses."""
    reply = settings.white_box.sampling.max_new_tokens
    responses = settings.method.candidates + (settings.method.rewrite != "off")
    return max(0, settings.white_box.max_length - reply), responses * reply


def examples_of_a_rank(settings: Settings) -> int:
    """The most prompts of an optimizer step that one rank has to do with."""
    return -(-settings.training.examples // settings.training.ranks)


def prompts_of_a_rank(settings: Settings, prompts: int) -> int:
    """The most prompts of a wave or a batch that one rank samples and scores."""
    return prompts if partitioned(settings) else -(-prompts // settings.training.ranks)


def sampled_rows(settings: Settings) -> int:
    """Responses of a wave that one rank samples at once."""
    return prompts_of_a_rank(settings, settings.training.wave) * settings.method.candidates


def held_out_rows(settings: Settings) -> int:
    """Responses to held-out prompts that one rank samples at once."""
    return prompts_of_a_rank(settings, settings.evaluation.batch)


def partitioned(settings: Settings) -> bool:
    """Whether each rank holds a part of every weight, and so runs every pass of sampling and scoring."""
    return settings.training.engine == "deepspeed" and settings.training.zero_stage == 3


def rounds(settings: Settings) -> int:
    """Of a run whose steps all use all their rounds."""
    return settings.data.prompts * settings.method.rounds


def held_out_prompts(settings: Settings) -> int:
    """Of the evaluation, before any filter where all are taken."""
    each, subsets = settings.evaluation.prompts_per_subset, settings.data.subsets
    if each is not None:
        return each * len(subsets)
    if settings.data.source == "world":
        return settings.world.test_pairs
    tests = {name: pairs for name, pairs in TABLE_6.items() if name.endswith("/test")}
    return sum(tests.get(f"{subset}/test", max(tests.values())) for subset in subsets)


def scored_responses(settings: Settings) -> int:
    """Of the evaluation and, where they are scored, of the cycle; once each by the reward model."""
    candidates = rounds(settings) * settings.method.candidates if settings.evaluation.score_candidates else 0
    return OWN_SYSTEMS * held_out_prompts(settings) + candidates
