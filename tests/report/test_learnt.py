"""What a report says a run learnt from, and how that stands to what evaluates it: cycles, refolds and baselines."""

import dataclasses
from typing import get_args

import pytest

from cyclealign.report.content import LESSONS, compose
from cyclealign.report.figures import RunFigures
from cyclealign.report.notes import honesty_notes
from storage.runs import Baseline


def learnt(figures: RunFigures, reward_model: str, **run: str) -> RunFigures:
    """The same figures of a run of another kind, whose reward models are others."""
    settings = {**figures.run.settings}
    settings["black_box"] = {**settings["black_box"], "endpoint": reward_model}
    settings["evaluation"] = {**settings["evaluation"], "reward_model": reward_model}
    return dataclasses.replace(figures, run=dataclasses.replace(figures.run, settings=settings, **run))


@pytest.mark.parametrize("reward_model", ["world", "classifier"])
def test_notes_of_rl_tell_that_what_it_maximised_evaluates_it(figures: RunFigures, reward_model: str) -> None:
    notes = " ".join(honesty_notes(learnt(figures, reward_model, kind="baseline", baseline="rl")))
    assert "RLOO" in notes
    assert "not PPO" in notes
    assert f"the evaluation's own (evaluation.reward_model = {reward_model})" in notes
    assert "ranked during training" not in notes


def test_notes_of_rl_tell_that_the_judges_head_which_it_maximised_is_related(figures: RunFigures) -> None:
    notes = " ".join(honesty_notes(learnt(figures, "preference", kind="baseline", baseline="rl")))
    assert "The reward model that was maximised in training and the reward model of this evaluation" in notes
    assert "the evaluation's own" not in notes


@pytest.mark.parametrize("reward_model", ["world", "preference"])
@pytest.mark.parametrize("method", ["sft", "rrhf", "pro", "dpo"])
def test_notes_of_a_baseline_on_the_pairs_name_no_judge(figures: RunFigures, method: str, reward_model: str) -> None:
    notes = " ".join(honesty_notes(learnt(figures, reward_model, kind="baseline", baseline=method)))
    assert "ranked during training" not in notes
    assert "maximised" not in notes
    assert {"world": "generated dialogue world", "preference": "fitted on pairs"}[reward_model] in notes


@pytest.mark.parametrize(
    ("run", "lesson"),
    [
        ({"kind": "cycle"}, "ranked by offline-judge"),
        ({"kind": "refold", "source_run": "other"}, "again on the rounds of other, ranked by offline-judge"),
        ({"kind": "baseline", "baseline": "sft"}, "chosen replies of the data set's own pairs (SFT)"),
        ({"kind": "baseline", "baseline": "rl"}, "rewards of its own responses (RLOO with PPO's clipped"),
    ],
    ids=lambda one: one if isinstance(one, str) else "-".join(one.values()),
)
def test_the_lead_says_what_the_run_learnt_from(figures: RunFigures, run: dict[str, str], lesson: str) -> None:
    lead = compose(learnt(figures, "world", **run)).lead
    assert lesson in lead
    assert run["kind"] != "baseline" or "ranked" not in lead


def test_every_baseline_has_its_lesson() -> None:
    assert set(LESSONS) == set(get_args(Baseline))
