"""The figures of a run's report: the rows of its exhibits, and what is made of them for the page.

`storage.exhibits` reads the rows. Texts are as the models and the data set wrote them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cyclealign.report.blocks import Row
from cyclealign.report.companions import ALL, GROUND_TRUTHS, order_reward_models, part, records, subsets_of
from cyclealign.report.exhibits import with_intervals
from cyclealign.statistics import correlation, distinct_n

IN_A_REPORT = tuple(
    f"run_{name}"
    for name in (
        *("rewards", "scores", "gains", "text", "cases", "agreement", "ranking_agreement", "ranking_accuracy"),
        *("losses", "spend", "unranked", "filter", "timings", "preference_accuracies", "preference_correlations"),
        *("demonstrations", "judge"),
    )
)
"""The exhibits whose rows a report needs."""


@dataclass(frozen=True)
class RunFigures:
    """Everything a report shows."""

    run: Row
    """What the run is and how far it got (`run-settings`), and the path of its `ledger`."""
    cases: Sequence[Row]
    """Of `run-cases` under the primary reward model, chosen by a `rule` (see `spread`)."""
    correlations: Mapping[str, float]
    """Other reward model -> Pearson correlation of its gains (after minus before) with the primary one's."""
    unpaired: int
    """Responses scored by the primary reward model that lack a scored counterpart."""
    unscored: bool
    """Whether there are candidates without a reward, which the ranking accuracy leaves out."""
    frames: Mapping[str, pd.DataFrame]
    """Rows of the run's other exhibits by name, without `run_`.

    `gains` has the primary reward model first and no rows before the evaluation; `text` tells how many bigrams of
    words are distinct; `ranking_accuracy` is under one reward model: the ground truth where there is one, else the
    primary one.
    """

    @property
    def overall(self) -> dict[str, Row]:
        """Each reward model's row over all responses; the claim rests on the first."""
        gained = self.frames["gains"]
        rows = records(gained[gained["subset"] == ALL])
        return {row["reward_model"]: row for row in rows}

    @property
    def primary(self) -> Row | None:
        """The primary reward model's row over all responses; None before the evaluation."""
        return next(iter(self.overall.values()), None)

    def gains_by(self, reward_model: str) -> pd.DataFrame:
        """The gains under one reward model, by subset."""
        rows = self.frames["gains"]
        return rows[rows["reward_model"] == reward_model]

    def setting(self, key: str) -> Any:
        """The influential setting under a dotted key, for example `white_box.model`; None where it is not set."""
        value: Any = self.run["settings"]
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def as_json(self) -> dict[str, Any]:
        """Plain values for `figures.json` and `cyclealign report RUN --json`; what is no finite number is null."""
        parts = {name: value for name, value in vars(self).items() if name != "frames"}
        plain: dict[str, Any] = _plain({**parts, **self.frames})
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records", date_format="iso", double_precision=15))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value


def figures_of(run: Row, rows: Mapping[str, pd.DataFrame], *, unscored: bool) -> RunFigures:
    """What a report makes of these rows.

    Args:
        run: As in the figures.
        rows: Of every exhibit in a report, `run_cases` under the primary reward model.
        unscored: As in the figures.
    """
    frames = {name.removeprefix("run_"): frame for name, frame in rows.items()}
    rewards, scores, cases = (frames.pop(name) for name in ("rewards", "scores", "cases"))
    names = order_reward_models(scores["reward_model"].unique())
    pairs = {name: scores[scores["reward_model"] == name] for name in names}
    sides = rewards[rewards["reward_model"].isin(names[:1]) & (rewards["subset"] == ALL)]
    responses = sides.loc[sides["role"].isin(["before", "after"]), "responses"].sum()
    accuracy, gained = (frames["ranking_accuracy"], with_intervals("run_gains", rows))
    frames["ranking_accuracy"] = accuracy[accuracy["reward_model"] == _truth(accuracy["reward_model"].unique())]
    frames["gains"] = gained.sort_values("reward_model", key=lambda by: by.map(names.index), kind="stable")
    frames["text"] = _with_distinct(frames["text"], cases)
    return RunFigures(
        run=run,
        cases=_chosen(cases.dropna(subset=["gain"]), run["settings"].get("evaluation", {}).get("cases", 3)),
        correlations={name: _correlation(pairs[names[0]], pairs[name]) for name in names[1:]},
        unpaired=int(responses) - sum(2 * len(pairs[name]) for name in names[:1]),
        unscored=unscored,
        frames=frames,
    )


def _truth(names: Iterable[str]) -> str:
    """The world's ground truth where it was asked, else the primary reward model."""
    ordered = order_reward_models(names)
    return next((name for name in ordered if name in GROUND_TRUTHS), ordered[0] if ordered else "")


def _correlation(primary: pd.DataFrame, other: pd.DataFrame) -> float:
    """Pearson correlation of the gains of two reward models over the prompts that both scored."""
    both = primary.merge(other, on="prompt_id", suffixes=("", "_other"))
    gain = both["reward_after"] - both["reward_before"]
    return correlation(gain, both["reward_after_other"] - both["reward_before_other"])


def _with_distinct(text: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """The rows of `before` and `after`, subset by subset, with the distinct bigrams of their texts."""
    wanted = [(subset, role) for subset in subsets_of(cases) for role in ("before", "after") if len(cases)]
    by_key = text.set_index(["subset", "role"]).reindex(wanted).reset_index()
    return by_key.assign(distinct_2=[distinct_n(part(cases, subset)[f"text_{role}"], 2) for subset, role in wanted])


def _chosen(cases: pd.DataFrame, wanted: int) -> list[Row]:
    """`wanted` cases spread evenly over all prompts by gain: a rule, not a choice of flattering ones."""
    places = spread(len(cases), wanted)
    rows = records(cases.iloc[places])
    return [{"rule": rule_name(index, len(places)), **row} for index, row in enumerate(rows)]


def spread(count: int, wanted: int) -> list[int]:
    """Positions of `wanted` items spread evenly over `count` sorted ones, both ends included.

    Three of them are the first, the median and the last; one alone is the median.
    """
    if wanted >= count:
        return list(range(count))
    if wanted == 1:
        return [(count - 1) // 2]
    return [round(index * (count - 1) / (wanted - 1)) for index in range(wanted)]


def rule_name(index: int, wanted: int) -> str:
    """What to call the `index`-th of `wanted` cases that `spread` chose from gains sorted largest first."""
    if wanted > 1 and index in (0, wanted - 1):
        return "largest gain" if index == 0 else "smallest gain"
    if 2 * index == wanted - 1:
        return "median gain"
    return f"{100 * index // (wanted - 1)} % of the way from the largest to the smallest gain"
