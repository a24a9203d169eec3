"""Figures collected from a ledger are those that the rows imply."""

import pytest

from cyclealign.errors import RunUnknown
from cyclealign.records import SUBSETS
from cyclealign.report.figures import RunFigures
from storage.figures import collect, order_reward_models
from storage.ledger import Ledger

RUN = "laptop-0"


def test_an_unknown_run_is_told_with_those_that_exist(ledger: Ledger) -> None:
    with pytest.raises(RunUnknown, match=RUN):
        collect(ledger, "nobody")


def test_the_reward_table_goes_by_the_papers_subsets_and_ends_with_all(figures: RunFigures) -> None:
    for table in figures.rewards:
        assert [row.subset for row in table.rows] == [*SUBSETS, "all"]
        assert table.overall.n == sum(row.n for row in table.rows[:-1]) == 120


def test_differences_are_after_minus_before_and_lie_in_their_interval(figures: RunFigures) -> None:
    for row in (row for table in figures.rewards for row in table.rows):
        assert row.difference.mean == pytest.approx(row.after.mean - row.before.mean)
        assert row.difference.low <= row.difference.mean <= row.difference.high
        assert row.win + row.tie + row.lose == pytest.approx(1)


def test_the_gain_that_was_put_in_is_found(figures: RunFigures) -> None:
    assert figures.primary is not None
    assert figures.primary.reward_model == "reward-head"
    assert figures.primary.overall.difference.low > 0


def test_intervals_are_the_same_every_time(ledger: Ledger, figures: RunFigures) -> None:
    assert collect(ledger, RUN).rewards == figures.rewards


@pytest.mark.parametrize(
    ("names", "primary", "ordered"),
    [
        (["judge", "world:quality", "held-out", "another"], None, ["another", "world:quality", "held-out", "judge"]),
        (["judge", "held-out"], "judge", ["judge", "held-out"]),
        (["world:well-formedness", "world:quality"], None, ["world:quality", "world:well-formedness"]),
        ([], None, []),
    ],
    ids=["the judge never carries the claim", "unless asked for", "ground truth alone", "none"],
)
def test_reward_models_are_ordered_by_how_much_they_prove(
    names: list[str], primary: str | None, ordered: list[str]
) -> None:
    assert order_reward_models(names, primary) == ordered


def test_another_reward_model_can_be_made_the_primary_one(ledger: Ledger) -> None:
    other = collect(ledger, RUN, primary="world:quality")
    assert other.rewards[0].reward_model == "world:quality"
    assert set(other.correlations) == {"reward-head", "judge-head", "world:well-formedness"}


def test_the_judges_gains_are_found_to_be_no_independent_witness(figures: RunFigures) -> None:
    assert figures.correlations["judge-head"] > 0.9


def test_cases_are_the_largest_the_median_and_the_smallest_gain(figures: RunFigures) -> None:
    gains = [case.reward_after - case.reward_before for case in figures.cases]
    assert [case.rule for case in figures.cases] == ["largest gain", "median gain", "smallest gain"]
    assert gains == sorted(gains, reverse=True)


def test_text_figures_describe_both_sides(figures: RunFigures) -> None:
    overall = figures.texts[-1]
    assert overall.subset == "all"
    assert overall.after.mean_tokens > overall.before.mean_tokens
    assert 0 < overall.before.distinct_2 < 1
    assert overall.before.repeated_4grams == pytest.approx(0.02)


def test_ranking_accuracy_is_held_against_the_ground_truth(figures: RunFigures) -> None:
    assert set(figures.ranking_accuracy["reward_model"]) == {"world:quality"}
    assert figures.ranking_accuracy["black_box_accuracy"].mean() > 0.5


def test_settings_are_found_by_dotted_key(figures: RunFigures) -> None:
    assert figures.setting("method.rounds") == 5
    assert figures.setting("method.nothing.below", "default") == "default"
