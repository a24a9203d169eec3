"""What a reader must know before believing the figures of a run, derived from them."""

import math
from collections.abc import Iterator

from cyclealign.report.blocks import count, number, percent, signed
from cyclealign.report.companions import ALL
from cyclealign.report.figures import RunFigures

QUALITY_TOLERANCE = 0.05
"""A note tells of a larger fall of well-formedness, and of a larger share of repeated 4-grams."""
LENGTH_TOLERANCE = 0.15
"""A note tells of a larger relative change of the mean length: reward models like length."""
ENOUGH = 20
"""Rankings, at least, before a note tells of what they have in common."""
DEVIATIONS = 4
"""Standard deviations from chance before a note tells of a judge's liking for what it is shown first."""
_WORLD = (
    "to a generated dialogue world. What the figures show holds there; they say nothing about human preference or "
    "safety."
)


def honesty_notes(figures: RunFigures) -> list[str]:
    """One paragraph per reservation, the ones that weigh most first."""
    parts = (_progress, _judge, _relation, _correlations, _evidence, _text, _counts)
    return [note for part in parts for note in part(figures)]


def _progress(figures: RunFigures) -> Iterator[str]:
    run = figures.run
    if run["state"] == "incomplete":
        yield f"The run is done but incomplete: {run['state_reason']}. Its weights come from the other rounds alone."
    elif run["state"] != "complete":
        reason = f": {run['state_reason']}" if run["state_reason"] else ""
        yield (
            f"The run is {run['state']}{reason}. Figures cover the {count(run['steps_done'])} of "
            f"{count(run['steps'])} steps done so far."
        )
    if not figures.overall:
        yield "Nothing has been evaluated yet, so this page says nothing about the effect of training."


def _judge(figures: RunFigures) -> Iterator[str]:
    """What the ledger shows of the model that ranked, for free: who answered, whether it read, whether it counts."""
    rows, name = figures.frames["judge"], figures.setting("black_box.model")
    if not len(rows):
        return
    rankings = rows["rankings"].sum()
    if len(rows) > 1:
        shares = ", ".join(
            f"{row['served_model']} ({percent(row['rankings'] / rankings)})" for row in rows.to_dict(orient="records")
        )
        yield f"Rankings under the name {name} came from several models: {shares}."
    first, chance = rows["first_shown_best"].sum() / rankings, 1 / rows["candidates"].max()
    if rankings >= ENOUGH and first > chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / rankings):
        yield (
            f"The judge named the response that it was shown first the best in {percent(first)} of {count(rankings)} "
            f"rankings, where {percent(chance)} is chance: it heeds the order more than the texts."
        )
    tokens, lengths = rows["most_tokens"].max(), (rows["shortest_prompt"].min(), rows["longest_prompt"].max())
    if rankings >= ENOUGH and 0 < rows["least_tokens"].min() == tokens and lengths[1] > 1.2 * lengths[0]:
        yield (
            f"The endpoint reports {count(tokens)} prompt tokens for every prompt, from {count(lengths[0])} to "
            f"{count(lengths[1])} characters: its usage, and what the ledger charges by it, cannot be right."
        )


def _relation(figures: RunFigures) -> Iterator[str]:
    """How what the run learnt from stands to what evaluates it."""
    evaluation = figures.setting("evaluation.reward_model")
    if figures.run["kind"] == "baseline":
        yield from _relation_of_baseline(figures.run["baseline"], evaluation)
        return
    judge = figures.setting("black_box.endpoint")
    if judge == evaluation == "preference":
        yield _related("The judge that ranked during training")
    if judge == evaluation == "world":
        yield f"Data, judge and reward model belong {_WORLD}"
    if judge == "api" and figures.setting("black_box.model") == figures.setting("evaluation.reward_model_name"):
        yield "The model that ranked during training also evaluates: this is no independent evidence."


def _relation_of_baseline(method: str, evaluation: str) -> Iterator[str]:
    """No judge ranked for a baseline: it learnt from the data set's pairs or, with RL, from rewards.

    Those of the judge's head where there is one, else of what evaluates (`tasks.models.training_reward_model`).
    """
    if method == "rl":
        yield (
            "This is REINFORCE leave-one-out (RLOO) with PPO's clipped objective, not PPO: the paper's PPO rows are of "
            "another method."
        )
        if evaluation == "preference":
            yield _related("The reward model that was maximised in training")
        else:
            yield (
                "The reward model that was maximised in training is the evaluation's own (evaluation.reward_model = "
                f"{evaluation}): a gain under it is what training was for, and no evidence. Look at the other measures."
            )
    elif evaluation == "preference":
        yield (
            "The reward model of this evaluation was fitted on pairs of the data set whose pairs the run learnt from: "
            "a gain here is agreement with the data set's preferences as that model sees them."
        )
    if evaluation == "world":
        yield f"Data and reward model belong {_WORLD}"


def _related(teacher: str) -> str:
    return (
        f"{teacher} and the reward model of this evaluation are related: both are heads on the same frozen pretrained "
        "model, fitted on disjoint halves of the same data set. They are not independent witnesses; a gain here is "
        "agreement with the data set's preferences as both see them."
    )


def _correlations(figures: RunFigures) -> Iterator[str]:
    for row in figures.frames["preference_correlations"].to_dict(orient="records"):
        yield (
            f"{row['reward_model']} and {row['other_model']} correlate {number(row['correlation'], 2)} over "
            f"{count(row['pairs'])} held-out pairs (1: the same witness, 0: independent ones)."
        )
    for other, correlation in figures.correlations.items():
        if "judge" in other:
            yield (
                f"Gains under {other} and under {next(iter(figures.overall))} correlate "
                f"{number(correlation, 2)} over this run's prompts (1: the same witness, 0: independent)."
            )


def _evidence(figures: RunFigures) -> Iterator[str]:
    if figures.primary is None:
        return
    low, high = figures.primary["difference_low"], figures.primary["difference_high"]
    if low <= 0 <= high:
        yield "The interval of the difference over all responses contains 0: this run alone shows no change."
    elif high < 0:
        yield "The reward fell: the interval of the difference over all responses lies below 0."
    yield (
        "Intervals are 95% bootstrap intervals over prompts of one run with one seed. They say how the figures would "
        "vary with other prompts, not with another seed; claims about the method need several runs."
    )
    if figures.unpaired:
        yield f"{count(figures.unpaired)} scored responses lack a scored counterpart and are left out."


def _text(figures: RunFigures) -> Iterator[str]:
    for name, row in figures.overall.items():
        if name.endswith("well-formedness") and row["difference"] < -QUALITY_TOLERANCE:
            yield f"Responses became less readable: well-formedness changed by {signed(row['difference'])}."
    sides = {row["role"]: row for row in figures.frames["text"].to_dict(orient="records") if row["subset"] == ALL}
    if sides:
        before, after = sides["before"], sides["after"]
        if before["mean_tokens"] and abs(after["mean_tokens"] / before["mean_tokens"] - 1) > LENGTH_TOLERANCE:
            lengths = f"{number(before['mean_tokens'], 1)} to {number(after['mean_tokens'], 1)} tokens"
            yield (
                f"Mean length went from {lengths}. Reward models tend to favour length, so part of a change in reward "
                "may be that."
            )
        if after["repeated_4grams"] > max(QUALITY_TOLERANCE, before["repeated_4grams"]):
            yield f"{percent(after['repeated_4grams'], 1)} of the 4-grams after training repeat earlier ones."


def _counts(figures: RunFigures) -> Iterator[str]:
    """What a complete run, its rounds and its data leave out."""
    if figures.unscored and figures.run["finished_at"]:
        yield (
            "Candidates were left without rewards: how often each ranker is right is shown for the others alone, if "
            "there are any. The same command with evaluation.score_candidates=true scores them."
        )
    unranked = int(figures.frames["unranked"]["rounds"].sum())
    if unranked:
        yield (
            f"{count(unranked)} of {count(figures.run['rounds'])} rounds could not be ranked and trained nothing; "
            "their reasons stand below."
        )
    if cut := int(figures.run["cut_prompts"]):
        yield (
            f"{count(cut)} prompts were too long for white_box.max_length: their oldest exchanges or the middle of a "
            "text were left out, for the model and for the judge alike."
        )
    read = figures.frames["filter"]
    compared = read[read["paper_pairs"].notna()]
    differing = compared[compared["rows_read"] != compared["paper_pairs"]]
    if len(differing):
        yield (
            f"{len(differing)} of {len(compared)} data files do not have the number of rows that the paper's "
            "Table 6 gives, so this is not the full data set of the paper."
        )
