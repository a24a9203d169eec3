"""Which of HH-RLHF's pairs fit the preference models, and which test them. Called by `preference`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyclealign.errors import DataError
from cyclealign.offline.settings import PreferenceSettings
from cyclealign.records import SUBSETS, PreferencePair
from cyclealign.seeds import derive_seed

HARMLESS = "harmless-base"


@dataclass(frozen=True, slots=True)
class ChosenPairs:
    """The pairs that fit the judge, those that fit the evaluation, those that test both; no prompt twice."""

    judge: tuple[PreferencePair, ...]
    evaluation: tuple[PreferencePair, ...]
    test: tuple[PreferencePair, ...]


def choose_pairs(
    train: Iterable[PreferencePair], test: Iterable[PreferencePair], settings: PreferenceSettings
) -> ChosenPairs:
    """One pair per prompt: two halves of training pairs at random, test pairs in equal numbers per subset.

    The choice depends on the pairs' texts alone, neither on their order nor on a run's seed.

    Raises:
        DataError: too few training pairs, no test pairs, or a half without harmless or without helpful pairs.
    """
    count = settings.pairs_per_half
    shuffled = _shuffled(train)
    judge, evaluation = shuffled[:count], shuffled[count : 2 * count]
    used = {pair.prompt.prompt_id for pair in (*judge, *evaluation)}
    left = [pair for pair in _shuffled(test) if pair.prompt.prompt_id not in used]
    by_subset = [[pair for pair in left if pair.prompt.subset == subset] for subset in SUBSETS]
    share = settings.test_pairs // max(1, sum(map(bool, by_subset)))
    tested = [pair for pairs in by_subset for pair in pairs[:share]]
    _refuse_too_few(judge, evaluation, tested, count)
    return ChosenPairs(tuple(judge), tuple(evaluation), tuple(tested))


def _shuffled(pairs: Iterable[PreferencePair]) -> list[PreferencePair]:
    """One pair per prompt, in an order that depends on the pairs' texts alone."""
    drawn = {derive_seed("preference pair", pair.prompt.prompt_id, pair.chosen, pair.rejected): pair for pair in pairs}
    firsts = {drawn[seed].prompt.prompt_id: drawn[seed] for seed in sorted(drawn, reverse=True)}
    return sorted(firsts.values(), key=lambda pair: derive_seed("preference prompt", pair.prompt.prompt_id))


def _refuse_too_few(
    judge: Sequence[PreferencePair], evaluation: Sequence[PreferencePair], test: Sequence[PreferencePair], count: int
) -> None:
    if len(evaluation) < count or not test:
        raise DataError(
            f"Found {len(judge) + len(evaluation)} training pairs and {len(test)} test pairs with prompts of "
            f"their own, expected {2 * count} and at least one. Lower preference.pairs_per_half or "
            "preference.test_pairs, or sample fewer prompts (data.prompts)."
        )
    if any(len(set(harmless_flags(half).tolist())) < 2 for half in (judge, evaluation)):
        raise DataError(
            f"The training pairs are all of {HARMLESS} or none is; preference models need both kinds. "
            "Check data.subsets."
        )


def harmless_flags(pairs: Sequence[PreferencePair]) -> NDArray[np.bool_]:
    """[N], whether each pair is one of harmless-base."""
    return np.array([pair.prompt.subset == HARMLESS for pair in pairs])
