"""A run's report: its exhibits in their order, with notes between them. What stands where, not how it is rendered."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cyclealign.report import blocks as as_text
from cyclealign.report.blocks import (
    Block,
    Heading,
    Notes,
    Plot,
    Row,
    Table,
    Title,
    count,
    number,
    percent,
    signed,
    words,
)
from cyclealign.report.catalogue import CATALOGUE
from cyclealign.report.companions import ALL, records
from cyclealign.report.exhibits import HIGH, LOW, people_table, written
from cyclealign.report.figures import RunFigures
from cyclealign.report.notes import honesty_notes
from cyclealign.report.plots import draw
from cyclealign.report.untrusted import clip, clip_start

DEMONSTRATIONS_SHOWN = 4
EXCERPT = 240
"""Characters of a demonstration's texts."""
PROMPT_LENGTH, RESPONSE_LENGTH = 300, 400
"""Characters of a case that a terminal shows."""
LESSONS = {
    "sft": "trained on the chosen replies of the data set's own pairs (SFT)",
    "rrhf": "trained on the data set's own pairs (RRHF)",
    "pro": "trained on the data set's own pairs (PRO)",
    "dpo": "trained on the data set's own pairs (DPO)",
    "rl": "trained on the rewards of its own responses (RLOO with PPO's clipped objective)",
}
"""What each baseline learns from."""
WIDE = (*(name + end for name in ("difference", "before", "after") for end in ("", LOW, HIGH)), "won", "tied", "lost")
NARROW = ("before", "after", "difference", "difference" + LOW, "difference" + HIGH)
"""Columns of a reward table on a page, and in a terminal of 80 columns."""


def report(figures: RunFigures) -> list[Block]:
    """The whole report; sections without figures are left out."""
    parts = (_head, _rewards, _measures, _cases, _course, _demonstrations, _accounts, _identity)
    return [block for part in parts for block in part(figures)]


def summary(figures: RunFigures, report_file: Path | None = None) -> list[Block]:
    """The end of a run in a terminal: tables, reservations, cases, cost and paths."""
    text, spend = figures.frames["text"], figures.frames["spend"]
    calls, reused = int(spend["calls"].sum()), int(spend["reused_calls"].sum())
    spent = f"{as_text.usd(float(spend['cost_usd'].sum()))} for {count(calls - reused)} calls"
    ends = {"API_calls": f"{spent}, {count(reused)} more reused" if reused else spent}
    places = {"adapter": figures.run["adapter_path"], "ledger": figures.run["ledger"], "report": report_file}
    sides = text[text["subset"] == ALL].drop(columns=["subset", "responses"])
    return [
        *reward_tables(figures, NARROW),
        *([people_table("The responses as text", sides)] if len(sides) else []),
        Notes("", tuple(honesty_notes(figures))),
        *([case_rule(figures)] if figures.cases else []),
        *(_case(row, PROMPT_LENGTH, RESPONSE_LENGTH) for row in figures.cases),
        _facts({**ends, **{name: place and str(place) for name, place in places.items()}}),
    ]


def reward_tables(figures: RunFigures, columns: tuple[str, ...] = WIDE, caption: str = "Reward by") -> list[Table]:
    """Rewards before and after, subset by subset with 95% intervals: one table per reward model."""
    parts = {f"{caption} {name}": figures.gains_by(name)[["subset", "n", *columns]] for name in figures.overall}
    return [replace(people_table(title, rows), total=True) for title, rows in parts.items()]


def _head(figures: RunFigures) -> Iterator[Block]:
    run, judge = figures.run, figures.setting("black_box.model")
    commit = f", commit {run['git_commit'][:12]}" if run["git_commit"] else ""
    again = f"trained again on the rounds of {run['source_run']}, " if run["kind"] == "refold" else ""
    lesson = LESSONS[run["baseline"]] if run["kind"] == "baseline" else f"{again}ranked by {judge}"
    lead = f"CycleAlign · profile {run['profile']}, seed {run['seed']}{commit} · {figures.setting('white_box.model')}"
    yield Title(run["name"], f"{lead} {lesson}", tuple(_cards(figures)))


def _cards(figures: RunFigures) -> Iterator[tuple[str, str, str]]:
    run, row, spend = figures.run, figures.primary, figures.frames["spend"]
    if row is not None:
        low, high = (signed(row["difference" + end]) for end in (LOW, HIGH))
        yield "Reward, after − before", signed(row["difference"]), f"95% interval {low} to {high}, n = {row['n']:,}"
        yield "Won / lost", f"{percent(row['won'])} / {percent(row['lost'])}", "of held-out prompts"
    steps = f"{count(run['steps_done'])} of {count(run['steps'])}"
    yield "Steps", steps, f"{count(run['rounds'])} rounds, {run['state']}"
    yield "Spent", as_text.usd(float(spend["cost_usd"].sum())), f"{count(spend['calls'].sum())} calls"
    yield "Elapsed", as_text.duration(run["elapsed_seconds"]), f"started {as_text.moment(run['created_at'])}"


def _rewards(figures: RunFigures) -> Iterator[Block]:
    yield Heading("Reward before and after", "reward")
    if figures.primary is not None:
        yield reward_tables(figures)[0]
        yield (
            "Means over held-out prompts with 95% bootstrap intervals in parentheses; differences, after minus before, "
            "are paired by prompt. Won, tied and lost are the shares of prompts whose reward rose, stayed and fell."
        )
    yield Notes("Before you believe this", tuple(honesty_notes(figures)))
    if figures.primary is not None:
        yield _plot("gains", figures.gains_by(figures.primary["reward_model"]))
        yield (
            "Points are means, bars their 95% intervals. Circles: before; squares: after; right: the paired "
            "difference, where only a bar clear of 0 shows a change."
        )


def _plot(name: str, frame: pd.DataFrame) -> Plot:
    drawing = CATALOGUE[f"run_{name}"].drawing
    assert drawing is not None, name  # noqa: S101  the report's own
    return draw(name, words(name), frame, drawing)


def _measures(figures: RunFigures) -> Iterator[Block]:
    """The responses as text, every other reward model, then the primary one on the paper's scale."""
    text = figures.frames["text"]
    if text.empty and figures.primary is None:
        return
    yield Heading("Other measures", "measures")
    yield "A reward model alone is no evidence: text can collapse while its reward stays high. These stand beside it."
    if len(text):
        yield people_table("The responses as text", text)
    yield from reward_tables(figures)[1:]
    sigmoids = ("sigmoid_difference", "sigmoid_before", "sigmoid_after")
    yield from reward_tables(figures, sigmoids, "On the paper's scale, mean of 100 · sigmoid(reward), by")[:1]


def case_rule(figures: RunFigures) -> str:
    """How the cases were chosen, as a sentence."""
    primary, shown = figures.primary or {}, len(figures.cases)
    total, measure = count(primary["n"]), f"gain in reward by {primary['reward_model']}"
    if shown == 3:
        which = f"of {total} prompts those with the largest, the median and the smallest {measure}"
    else:
        which = f"{shown} of {total} prompts, spread evenly by {measure}"
    return f"Chosen by rule, not by hand: {which}."


def _cases(figures: RunFigures) -> Iterator[Block]:
    if figures.cases:
        yield Heading("The same prompt, before and after", "cases")
        yield case_rule(figures)
        yield "Prompts and responses are the words of the data set and of the models, harmful ones included."
        yield from map(_case, figures.cases)


def _case(row: Row, prompt_length: int | None = None, response_length: int | None = None) -> Table:
    """One prompt with both responses; in full where no length is given."""
    instruction = row["instruction"] if prompt_length is None else clip_start(row["instruction"], prompt_length)
    lines = [("Prompt", "", instruction)]
    for role in ("before", "after"):
        text = row[f"text_{role}"]
        shown = text if response_length is None else clip(text, response_length)
        lines.append((words(role), number(row[f"reward_{role}"]), shown))
    caption = f"{words(row['rule'])}: {signed(row['gain'])}, {row['subset']}, prompt {row['prompt_id']}"
    return Table(caption, ("", "Reward", "Text"), tuple(lines), text_columns=3)


def _course(figures: RunFigures) -> Iterator[Block]:
    """How the rankings agree with each other, and with a reward model where known, early and late."""
    names = [name for name in ("agreement", "ranking_agreement", "ranking_accuracy") if len(figures.frames[name])]
    losses = figures.frames["losses"]
    if names or len(losses):
        yield Heading("The course of the run", "course")
    for name in names:
        yield _plot(name, figures.frames[name])
    if names:
        yield (
            "Means over bins of equally many steps. All rounds lean towards prompts on which the two disagree, because "
            "steps that agree stop early; first rounds do not."
        )
        rows = tuple(row for name in names for row in _ends(figures.frames[name]))
        yield Table("", ("Black box and white box", "First quarter", "Last quarter"), rows)
    if len(losses):
        yield _plot("losses", losses)
        yield "By optimizer steps; of many steps the mean per bin, and the band that holds 10 to 90 percent of them."


def _ends(bins: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Means over the bins of the first and of the last quarter; bins hold equally many steps."""
    quarter = max(1, len(bins) // 4)
    by = f", by {bins['reward_model'].iloc[0]}" if "reward_model" in bins else ""
    for name in bins.columns.drop(["reward_model", "first_step", "last_step", "rounds", "pairs"], errors="ignore"):
        first, last = (float(end.mean()) for end in (bins[name].head(quarter), bins[name].tail(quarter)))
        yield words(name) + by, number(first, 2), number(last, 2)


def _demonstrations(figures: RunFigures) -> Iterator[Block]:
    """The static demonstration and the dynamic ones that were shown most often, earlier ones first among equals."""
    frame = figures.frames["demonstrations"]
    if frame.empty:
        return
    dynamic = frame[frame["kind"] == "dynamic"]
    order = frame.sort_values(["kind", "times_shown", "demonstration"], ascending=[False, False, True])
    shown = [
        {
            **{name: row[name] for name in ("kind", "step", "round", "times_shown")},
            "instruction": clip(row["instruction"], EXCERPT),
            "ranked_best": clip(row["responses"][row["ranking"][0]], EXCERPT),
            "ranked_last": clip(row["responses"][row["ranking"][-1]], EXCERPT),
        }
        for row in records(order.head(DEMONSTRATIONS_SHOWN))
    ]
    yield Heading("Demonstrations", "demonstrations")
    yield (
        f"{count(len(dynamic))} agreement rankings were admitted as dynamic demonstrations and shown "
        f"{count(float(dynamic['times_shown'].sum()))} times in all. Below: the static one and the dynamic ones that "
        "were shown most often."
    )
    yield people_table("", pd.DataFrame(shown))


def _accounts(figures: RunFigures) -> Iterator[Block]:
    """What was spent, read and waited for, and what could not be ranked."""
    spend, read, accuracies, unranked = (
        figures.frames[name] for name in ("spend", "filter", "preference_accuracies", "unranked")
    )
    total = {**spend.sum(numeric_only=True), "purpose": ALL, "model": ""}
    yield Heading("Spend", "spend")
    yield (
        "Reused calls were answered before this run needed them and cost it nothing. Attempts of unknown outcome count "
        "at their reserve."
    )
    spent = people_table("", pd.concat([spend, pd.DataFrame([total])], ignore_index=True))
    yield replace(spent, text_columns=2, total=True)
    if len(read):
        yield Heading("Data", "data")
        yield people_table("", read[["subset", "split", "drops", "rows_read", "paper_pairs", "pairs_kept"]])
    if len(accuracies):
        yield people_table("Reward models against people, on held-out pairs", accuracies)
    yield Heading("Time", "time")
    yield (
        "Seconds of work per phase. Phases of different waves may overlap; evaluation is the generation of the "
        "compared responses, whichever run paid for it."
    )
    yield people_table("", figures.frames["timings"])
    yield Heading("Rounds without a ranking", "unranked")
    yield people_table("", unranked) if len(unranked) else "None: every round that was answered was ranked."


def _identity(figures: RunFigures) -> Iterator[Block]:
    """What made these figures: profile, seed, models, code, machine, and where everything lies."""
    models = {name: figures.setting(f"{name}.model") for name in ("white_box", "black_box")}
    known = {**figures.run, **models, "reward_model": next(iter(figures.overall), None)}
    yield Heading("What this run is", "run")
    yield _facts({name: value for name, value in known.items() if name not in ("name", "settings")})
    caption, rows = "All settings that influence the result", tuple(_flat(figures.run["settings"]))
    yield Table(caption, ("Setting", "Value"), rows, text_columns=2, folded=True)


def _facts(row: Row) -> Table:
    """Labels and values; those without a value are left out."""
    known = [name for name, value in row.items() if value is not None]
    return Table("", (), tuple((words(name), written(row, name)) for name in known), text_columns=2)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting under its dotted key."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
