"""Collects the figures of a run's report from the ledger, through the exhibits in `sql/exhibits/run_*.sql`.

One short session reads everything; statistics are computed after it is closed. Leaves out: showing the
figures (`cyclealign.report`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from cyclealign.records import SUBSETS
from cyclealign.report.figures import (
    ALL,
    GROUND_TRUTHS,
    Case,
    RewardRow,
    RewardTable,
    RunFigures,
    RunIdentity,
    TextFigures,
    TextRow,
    rule_name,
    spread,
)
from cyclealign.statistics import (
    bootstrap_interval,
    correlation,
    differences_by_prompt,
    distinct_n,
    paired_difference,
    sigmoid_mean,
    win_tie_lose,
)
from storage import response_rewards, runs
from storage.ledger import Ledger, Session

BINS = 20
"""Into which the steps of a run are cut for its curves."""


@dataclass(frozen=True)
class _Frames:
    """The exhibits' rows as they come from the ledger; `cases` are under the primary reward model."""

    rewards: pd.DataFrame
    scores: pd.DataFrame
    text: pd.DataFrame
    agreement: pd.DataFrame
    ranking_agreement: pd.DataFrame
    ranking_accuracy: pd.DataFrame
    losses: pd.DataFrame
    spend: pd.DataFrame
    unranked: pd.DataFrame
    filter: pd.DataFrame
    timings: pd.DataFrame
    preference_accuracies: pd.DataFrame
    preference_correlations: pd.DataFrame
    demonstrations: pd.DataFrame


_BINNED = ("agreement", "ranking_agreement", "ranking_accuracy")


def collect(ledger: Ledger, run_name: str, primary: str | None = None) -> RunFigures:
    """All figures of a run's report, as far as it got.

    Args:
        ledger: Where the run is recorded.
        run_name: The run.
        primary: The reward model that the claim rests on; None: the first by name that is neither a ground
            truth of the world nor the judge's own.

    Raises:
        RunUnknown: the ledger has no run of this name.
    """
    with ledger.session() as session:
        runs.get(ledger, run_name)  # says which runs there are when this is none
        run = _identity(session, run_name, str(ledger.path))
        frames = _frames(session, run_name)
        names = order_reward_models(frames.scores["reward_model"].unique(), primary)
        reward_model = names[0] if names else ""
        cases = session.frame("exhibits/run_cases", run_name=run_name, reward_model=reward_model)
        unscored = response_rewards.any_unscored(ledger, run_name)
    return _figures(run, names, frames, cases, unscored=unscored)


def order_reward_models(names: Iterable[str], primary: str | None = None) -> list[str]:
    """Reward models as the report orders them: the primary one, the world's ground truths, others by name."""

    def place(name: str) -> tuple[bool, bool, int, str]:
        known = GROUND_TRUTHS.index(name) if name in GROUND_TRUTHS else len(GROUND_TRUTHS)
        return name != primary, "judge" in name, known, name

    ordered = sorted(names, key=place)
    if ordered and primary is None:
        independent = [name for name in ordered if name not in GROUND_TRUTHS and "judge" not in name]
        return order_reward_models(ordered, independent[0] if independent else ordered[0])
    return ordered


def _identity(session: Session, run_name: str, ledger: str) -> RunIdentity:
    row = session.rows("exhibits/run_settings", run_name=run_name)[0]
    for name in ("settings", "package_versions", "machine"):
        row[name] = json.loads(row[name])
    for name in ("created_at", "finished_at"):
        row[name] = row[name] and row[name].isoformat()
    row["name"] = row.pop("run_name")
    return RunIdentity(**row, ledger=ledger)


def _frames(session: Session, run_name: str) -> _Frames:
    def frame(name: str) -> pd.DataFrame:
        parameters: dict[str, Any] = {"bins": BINS} if name in _BINNED else {}
        return session.frame(f"exhibits/run_{name}", run_name=run_name, **parameters)

    return _Frames(**{field.name: frame(field.name) for field in fields(_Frames)})


def _figures(run: RunIdentity, names: list[str], frames: _Frames, cases: pd.DataFrame, *, unscored: bool) -> RunFigures:
    scores = {name: frames.scores[frames.scores["reward_model"] == name] for name in names}
    primary = scores[names[0]] if names else frames.scores
    wanted = run.settings.get("evaluation", {}).get("cases", 3)
    return RunFigures(
        run=run,
        rewards=tuple(_reward_table(name, rows) for name, rows in scores.items()),
        correlations={name: _correlation(primary, scores[name]) for name in names[1:]},
        unpaired=_unpaired(frames.rewards, names, len(primary)),
        texts=_texts(frames.text, cases),
        cases=_cases(cases.dropna(subset=["gain"]), wanted),
        agreement=frames.agreement,
        ranking_agreement=frames.ranking_agreement,
        ranking_accuracy=_of_truth(frames.ranking_accuracy),
        unscored=unscored,
        losses=frames.losses,
        spend=frames.spend,
        unranked=frames.unranked,
        filter=frames.filter,
        timings=frames.timings,
        preference_accuracies=frames.preference_accuracies,
        preference_correlations=frames.preference_correlations,
        demonstrations=frames.demonstrations,
    )


def _subsets(names: Iterable[str]) -> list[str]:
    """The subsets that occur, in the order of the paper's tables, others after them, `all` last."""
    present = set(names) - {ALL}
    known = [subset for subset in SUBSETS if subset in present]
    return [*known, *sorted(present - set(known)), ALL]


def _reward_table(reward_model: str, rows: pd.DataFrame) -> RewardTable:
    subsets = _subsets(rows["subset"])
    return RewardTable(
        reward_model,
        tuple(_reward_row(name, rows if name == ALL else rows[rows["subset"] == name]) for name in subsets),
    )


def _reward_row(subset: str, rows: pd.DataFrame) -> RewardRow:
    before, after = _by_prompt(rows, "reward_before"), _by_prompt(rows, "reward_after")
    outcome = win_tie_lose(differences_by_prompt(before, after).values(), tie_margin=0)
    return RewardRow(
        subset=subset,
        n=len(rows),
        before=bootstrap_interval(list(before.values())),
        after=bootstrap_interval(list(after.values())),
        difference=paired_difference(before, after),
        win=outcome.win / outcome.n,
        tie=outcome.tie / outcome.n,
        lose=outcome.lose / outcome.n,
        sigmoid_before=sigmoid_mean(rows["reward_before"]),
        sigmoid_after=sigmoid_mean(rows["reward_after"]),
    )


def _by_prompt(rows: pd.DataFrame, column: str) -> Mapping[str, float]:
    return dict(zip(rows["prompt_id"], rows[column].astype(float), strict=True))


def _correlation(primary: pd.DataFrame, other: pd.DataFrame) -> float:
    """Pearson correlation of the gains of two reward models over the prompts that both scored."""
    both = primary.merge(other, on="prompt_id", suffixes=("", "_other"))
    gain = both["reward_after"] - both["reward_before"]
    return correlation(gain, both["reward_after_other"] - both["reward_before_other"])


def _unpaired(rewards: pd.DataFrame, names: list[str], paired: int) -> int:
    """Responses before or after without a counterpart, under the primary reward model."""
    if not names:
        return 0
    scored = rewards[
        (rewards["reward_model"] == names[0]) & (rewards["subset"] == ALL) & rewards["role"].isin(["before", "after"])
    ]
    return int(scored["responses"].sum()) - 2 * paired


def _texts(text: pd.DataFrame, cases: pd.DataFrame) -> tuple[TextRow, ...]:
    if cases.empty:
        return ()
    return tuple(
        TextRow(subset, _text(text, cases, subset, "before"), _text(text, cases, subset, "after"))
        for subset in _subsets(cases["subset"])
    )


def _text(text: pd.DataFrame, cases: pd.DataFrame, subset: str, role: str) -> TextFigures:
    row = text[(text["subset"] == subset) & (text["role"] == role)].iloc[0]
    written = cases if subset == ALL else cases[cases["subset"] == subset]
    return TextFigures(
        n=int(row["responses"]),
        mean_tokens=float(row["mean_tokens"]),
        distinct_2=distinct_n(written[f"text_{role}"], 2),
        repeated_4grams=float(row["repeated_4grams"]),
        ended_share=float(row["ended_share"]),
    )


def _of_truth(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The rows of one reward model: the world's ground truth where it was asked, else the primary one."""
    names = order_reward_models(accuracy["reward_model"].unique())
    chosen = next((name for name in names if name in GROUND_TRUTHS), names[0] if names else "")
    return accuracy[accuracy["reward_model"] == chosen].reset_index(drop=True)


def _cases(cases: pd.DataFrame, wanted: int) -> tuple[Case, ...]:
    """`wanted` cases spread evenly over all prompts by gain: a rule, so nobody picks flattering ones."""
    chosen = spread(len(cases), wanted)
    return tuple(
        _case(cases.iloc[place].to_dict(), rule_name(index, len(chosen))) for index, place in enumerate(chosen)
    )


def _case(row: Mapping[Any, Any], rule: str) -> Case:
    return Case(
        rule=rule,
        subset=row["subset"],
        prompt_id=row["prompt_id"],
        instruction=row["instruction"],
        before=row["text_before"],
        after=row["text_after"],
        reward_before=float(row["reward_before"]),
        reward_after=float(row["reward_after"]),
    )
