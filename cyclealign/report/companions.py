"""What is made of an exhibit's rows besides their intervals: rows of their own, tables below, notes on judges.

Gains of a run; differences under Table 1, agreement of annotators under Table 3, what a judge leans to under Table 2
and an audit; for one run or several. Intervals are 95% bootstrap intervals over prompts. Paper: Tables 1, 2, 3.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from cyclealign.judges import Agreement, Leanings, Ratings, agreement, audit_leanings, majority, verdict_leanings
from cyclealign.records import SUBSETS
from cyclealign.report.blocks import MISSING, Table, count, interval, percent, signed
from cyclealign.settings import EVALUATOR
from cyclealign.statistics import Interval, paired_difference, sigmoid_100

ALL = "all"
"""The subset name under which figures over all responses stand."""
GROUND_TRUTHS = ("world:quality", "world:well-formedness")
"""What is known of the generated world: scores between 0 and 1, shown right after the primary reward model."""
OURS = "after"
UNKNOWN_MODEL = "not named"


def subsets_of(rows: pd.DataFrame) -> list[str]:
    """The subsets that occur, in the order of the paper's tables, others after them, all of them last."""
    there = set(rows["subset"]) - {ALL}
    return [*(one for one in SUBSETS if one in there), *sorted(there - set(SUBSETS)), ALL]


def part(rows: pd.DataFrame, subset: str) -> pd.DataFrame:
    """The rows of a subset; `all` are all rows."""
    return rows if subset == ALL else rows[rows["subset"] == subset]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame's rows as mappings."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict(orient="records")]


def order_reward_models(names: Iterable[str], primary: str | None = None) -> list[str]:
    """Reward models as the report orders them: the primary one, the world's ground truths, others by name.

    Without a primary one it is the first by name that is neither a ground truth of the world nor the judge's own.
    """

    def place(name: str) -> tuple[bool, bool, int, str]:
        known = GROUND_TRUTHS.index(name) if name in GROUND_TRUTHS else len(GROUND_TRUTHS)
        return name != primary, "judge" in name, known, name

    ordered = sorted(names, key=place)
    if ordered and primary is None:
        independent = [name for name in ordered if name not in GROUND_TRUTHS and "judge" not in name]
        return order_reward_models(ordered, independent[0] if independent else ordered[0])
    return ordered


def gains(scores: pd.DataFrame) -> pd.DataFrame:
    """Rewards before and after by reward model and subset, from the pairs of `run-scores`.

    The difference is after minus before; won, tied and lost are the shares of prompts whose reward rose, stayed and
    fell; the sigmoids are means in the unit of the paper's Table 1.
    """
    rows = []
    for name, paired in scores.groupby("reward_model", sort=False):
        for subset in subsets_of(paired):
            before, after = (part(paired, subset)[f"reward_{role}"].astype(float) for role in ("before", "after"))
            change = after - before
            means = {"difference": change.mean(), "before": before.mean(), "after": after.mean()}
            shares = {"won": (change > 0).mean(), "tied": (change == 0).mean(), "lost": (change < 0).mean()}
            earlier, later = sigmoid_100(before).mean(), sigmoid_100(after).mean()
            sigmoids = {"difference": later - earlier, "before": earlier, "after": later}
            first = {"reward_model": name, "subset": subset, "n": len(change)}
            rows.append({**first, **means, **shares, **{f"sigmoid_{key}": value for key, value in sigmoids.items()}})
    gained = ("difference", "before", "after")
    names = ("reward_model", "subset", "n", *gained, "won", "tied", "lost", *(f"sigmoid_{name}" for name in gained))
    return pd.DataFrame(rows, columns=list(names))


def difference_tables(scores: pd.DataFrame) -> list[Table]:
    """The trained model minus each other system, paired by prompt: one table per run and reward model.

    In the unit of the paper's Table 1; a known truth, which is no reward but lies between 0 and 1, on its own scale.
    """
    return [
        _differences(str(run), str(name), rows)
        for (run, name), rows in scores.groupby(["run_name", "reward_model"], sort=False)
        if rows["role"].nunique() > 1 and (rows["role"] == OURS).any()
    ]


def _differences(run: str, reward_model: str, rows: pd.DataFrame) -> Table:
    known = reward_model in GROUND_TRUTHS
    rows = rows.assign(value=rows["reward"] if known else sigmoid_100(rows["reward"]))
    ours, subsets, body = rows[rows["role"] == OURS], subsets_of(rows), []
    for role in sorted(set(rows["role"]) - {OURS}, key=lambda role: (role != "before", role)):
        both = ours.merge(rows[rows["role"] == role], on=["subset", "prompt_id"], suffixes=("", "_other"))
        cells = [_difference(part(both, subset), 3 if known else 2) for subset in subsets]
        body.append((role, count(len(both)), *cells))
    scale = "the score" if known else "100 · sigmoid(reward)"
    caption = f"Difference in {scale}, {OURS} minus the other, by {reward_model}, run {run}"
    titles = ("Total" if subset == ALL else subset for subset in subsets)
    return Table(caption, ("Against", "n", *titles), tuple(body))


def _difference(both: pd.DataFrame, digits: int) -> str:
    if both.empty:
        return MISSING
    theirs, ours = (dict(zip(both["prompt_id"], both[name], strict=True)) for name in ("value_other", "value"))
    return interval(paired_difference(theirs, ours), digits, signed)


def bias_tables(verdicts: pd.DataFrame) -> list[Table]:
    """How often the response shown first wins, and the longer one: one table per run and judge."""
    columns = ("System", "Against", "Decided", "% to the first shown", "% to the longer")
    tables = []
    for (run, judge), rows in verdicts.groupby(["run_name", "judge"], sort=False):
        body = []
        for (role, against), pair in rows.groupby(["role", "against"], sort=False):
            found = verdict_leanings(records(pair))
            body.append((str(role), str(against), count(found.decided), *map(_percent, (found.first, found.longer))))
        caption = f"Order and length in the verdicts of {judge}, run {run}"
        tables.append(Table(caption, columns, tuple(body), text_columns=2))
    return tables


def _percent(share: Interval | None) -> str:
    return interval(share and Interval(100 * share.mean, 100 * share.low, 100 * share.high, share.n), 0)


def agreement_tables(verdicts: pd.DataFrame) -> list[Table]:
    """How far people agree with each other, and their majority with each model judge that compared the same."""
    rows = [
        (str(run), str(role), str(against), *row)
        for (run, role, against), part in verdicts.groupby(["run_name", "role", "against"], sort=False)
        for row in _agreements(part)
    ]
    columns = ("Run", "System", "Against", "Who", "Measure", "Raters", "Prompts", "Equal", "Kappa (95% interval)")
    caption = "Agreement of those who judged the same prompts; 0 is what chance brings, 1 is full agreement"
    return [Table(caption, columns, tuple(rows), text_columns=5)] if rows else []


def _agreements(verdicts: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    people, models = (verdicts[verdicts["judge_kind"] == kind] for kind in ("person", "model"))
    yield from _cells("annotators", agreement(_ratings(people)))
    for judge, rows in models.groupby("judge", sort=False):
        both = _beside(_ratings(people), _ratings(rows))
        yield from _cells(f"majority of annotators and {judge}", agreement(both))


def _ratings(verdicts: pd.DataFrame) -> dict[str, dict[str, str]]:
    return {
        str(prompt): dict(zip(rows["judge"].astype(str), rows["outcome"].astype(str), strict=True))
        for prompt, rows in verdicts.groupby("prompt_id")
    }


def _beside(people: Ratings, model: Ratings) -> dict[str, dict[str, str]]:
    """What most people said of a prompt, beside what the model said; no lead is a tie."""
    return {
        prompt: {"people": majority(people[prompt].values(), "tie"), "model": verdict}
        for prompt, given in model.items()
        for verdict in given.values()
        if prompt in people
    }


def _cells(who: str, found: Agreement | None) -> Iterator[tuple[str, ...]]:
    if found is not None:
        counts = (count(found.raters), count(found.kappa.n))
        yield who, found.measure, *counts, percent(found.observed), interval(found.kappa, 2)


def audit_tables(rows: pd.DataFrame) -> list[Table]:
    """Consistency, position bias and length effect per subset; `all` is the last row.

    Of the `n` answers that could be read, the comparable ones rank at least two different texts: they alone say
    something about order. Answers of different served models are told apart, by name and, where the provider gives
    one, by fingerprint: the model behind an endpoint may have changed in between. Where it did so without a trace, the
    dates of the answers remain, in UTC.
    """
    if rows.empty:
        return []
    served = served_models(rows)
    body = [
        (name, _dates(answers["recorded_at"]), _dates(answers["repeated_at"]), subset, *_audited(part(answers, subset)))
        for name, answers in rows.groupby(served)
        for subset in subsets_of(answers)
    ]
    columns = (
        *("Served by", "Recorded", "Repeated", "Subset", "n", "Comparable", "Unread", "Kendall's tau", "Another best"),
        f"First shown best (chance {1 / rows['recorded_permutation'].map(len).max():.2f})",
        "Longer above shorter",
    )
    several = "; more than one served model answered, by name or fingerprint" if served.nunique() > 1 else ""
    return [Table(f"The same rankings in another order{several}", columns, tuple(body), text_columns=4)]


def served_models(rows: pd.DataFrame) -> pd.Series:
    """Of each row, the models that served the recorded and the repeated answer, as far as the answers tell."""
    recorded, repeated = (
        rows[f"{when}_model"].astype("string").fillna(UNKNOWN_MODEL)
        + (" " + rows[f"{when}_fingerprint"].astype("string")).fillna("")
        for when in ("recorded", "repeated")
    )
    return recorded.where(recorded == repeated, recorded + " → " + repeated)


def _dates(moments: pd.Series) -> str:
    days = pd.to_datetime(moments.dropna(), utc=True).dt.strftime("%Y-%m-%d")
    if days.empty:
        return MISSING
    first, last = days.min(), days.max()
    return first if first == last else f"{first} to {last}"


def _audited(rows: pd.DataFrame) -> tuple[str, ...]:
    read = rows[rows["repeated_ranking"].notna()]
    found: Leanings = audit_leanings(records(read))
    counts = (found.n, found.decided, len(rows) - len(read))
    return *map(count, counts), *(interval(one, 2) for one in (found.tau, found.flips, found.first, found.longer))


def judge_notes(judged: pd.DataFrame, rankers: Mapping[str, str]) -> list[str]:
    """One paragraph per reservation about the judges of evaluations.

    What does not hold for all runs names those that it holds for.

    Args:
        judged: Rows with a `run_name` and a `judge`: the model's name, then endpoint and parameters.
        rankers: By run, the model that ranked during its training; missing where none did.
    """
    found: dict[str, list[str]] = {}
    for run, part in judged.groupby("run_name"):
        for model in (judge.rpartition(" (")[0] for judge in part["judge"].unique()):
            for note in _reservations(model, rankers.get(str(run), "")):
                found.setdefault(note, []).append(str(run))
    runs = judged["run_name"].nunique()
    return [
        note if len(names) == runs else f"In the evaluation of {', '.join(names)}: {note}"
        for note, names in found.items()
    ]


def _reservations(model: str, ranked_by: str) -> Iterator[str]:
    """A gateway's prefix (`openai/…`) and the case do not make another model."""
    if model.rsplit("/", 1)[-1].lower() == ranked_by.rsplit("/", 1)[-1].lower():
        yield (
            f"{model} ranked during training and judges here as well: this is no independent evidence. Expected "
            "another model under evaluation.judge.endpoint.model."
        )
    if model.startswith(EVALUATOR):
        yield (
            f"{model} is the evaluation's own reward model behind a comparison prompt, with an annotator's luck. "
            "It did not rank during training, and it is no witness of its own beside that reward model's table."
        )
