from collections import Counter
from dataclasses import replace

import pytest

from cyclealign.errors import DataError
from cyclealign.offline.preference_pairs import choose_pairs
from cyclealign.offline.settings import PreferenceSettings
from cyclealign.records import PreferencePair

Pairs = list[PreferencePair]


def test_no_prompt_is_in_two_parts(
    train_pairs: Pairs, held_out_pairs: Pairs, preference_settings: PreferenceSettings
) -> None:
    again = [replace(pair, chosen=f"{pair.chosen} indeed") for pair in train_pairs]
    chosen = choose_pairs(train_pairs + again, held_out_pairs + train_pairs, preference_settings)
    prompts = Counter(pair.prompt.prompt_id for part in (chosen.judge, chosen.evaluation, chosen.test) for pair in part)
    assert max(prompts.values()) == 1
    assert (len(chosen.judge), len(chosen.evaluation)) == (24, 24)


def test_the_choice_does_not_depend_on_the_order_of_the_pairs(
    train_pairs: Pairs, held_out_pairs: Pairs, preference_settings: PreferenceSettings
) -> None:
    again = [replace(pair, rejected=f"{pair.rejected} indeed") for pair in train_pairs]
    chosen = choose_pairs(train_pairs + again, held_out_pairs, preference_settings)
    assert choose_pairs([*again, *train_pairs][::-1], held_out_pairs[::-1], preference_settings) == chosen


def test_test_pairs_are_shared_equally_among_the_subsets(
    train_pairs: Pairs, held_out_pairs: Pairs, preference_settings: PreferenceSettings
) -> None:
    chosen = choose_pairs(train_pairs, held_out_pairs, preference_settings)
    subsets = Counter(pair.prompt.subset for pair in chosen.test)
    assert subsets == {"harmless-base": 8, "helpful-base": 8}


def test_too_few_pairs_are_an_error_that_says_how_many_are_needed(
    train_pairs: Pairs, held_out_pairs: Pairs, preference_settings: PreferenceSettings
) -> None:
    with pytest.raises(DataError, match=r"Found 30 training pairs.*expected 48.*pairs_per_half"):
        choose_pairs(train_pairs[:30], held_out_pairs, preference_settings)
    with pytest.raises(DataError, match="0 test pairs"):
        choose_pairs(train_pairs, [], preference_settings)


def test_pairs_of_one_kind_only_are_an_error(
    train_pairs: Pairs, held_out_pairs: Pairs, preference_settings: PreferenceSettings
) -> None:
    harmful = [pair for pair in train_pairs if pair.prompt.subset == "harmless-base"]
    settings = preference_settings.model_copy(update={"pairs_per_half": 10})
    with pytest.raises(DataError, match="both kinds"):
        choose_pairs(harmful, held_out_pairs, settings)
