"""The tables about the run itself: what it spent, read, waited for, showed and was set to."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from cyclealign.report import formats
from cyclealign.report.figures import RunFigures
from cyclealign.report.tables import Table
from cyclealign.report.untrusted import clip

DEMONSTRATIONS_SHOWN = 4
EXCERPT = 240
"""Characters of a demonstration's texts."""


def spend_table(figures: RunFigures) -> Table:
    """Calls, tokens and dollars per purpose and model."""
    columns = ("calls", "reused_calls", "attempts", "prompt_tokens", "completion_tokens")
    rows = [
        (row["purpose"], row["model"], *(formats.count(row[name]) for name in columns), formats.usd(row["cost_usd"]))
        for row in _records(figures.spend)
    ]
    totals = [formats.count(float(figures.spend[name].sum())) for name in columns]
    rows.append(("all", "", *totals, formats.usd(figures.spent_usd)))
    names = ("Purpose", "Model", "Calls", "Reused", "Attempts", "Prompt tokens", "Completion tokens", "US dollars")
    return Table("What the API calls cost", names, tuple(rows), text_columns=2, total=True)


def filter_table(figures: RunFigures) -> Table:
    """Rows read and pairs kept per file, beside the paper's Table 6."""
    rows = [
        (
            row["subset"],
            row["split"],
            _drops(row["drops"]),
            formats.count(row["rows_read"]),
            formats.MISSING if pd.isna(row["paper_pairs"]) else formats.count(row["paper_pairs"]),
            formats.count(row["pairs_kept"]),
        )
        for row in _records(figures.filter)
    ]
    columns = ("Subset", "Split", "Dropped", "Rows read", "Paper, Table 6", "Pairs kept")
    return Table("The data and its filter", columns, tuple(rows), text_columns=3)


def timings_table(figures: RunFigures) -> Table:
    """Seconds per phase."""
    rows = [
        (row["phase"], formats.duration(row["seconds"]), formats.percent(row["share_of_sum"]))
        for row in _records(figures.timings)
    ]
    return Table("Where the time went", ("Phase", "Time", "Share"), tuple(rows))


def unranked_table(figures: RunFigures) -> Table:
    """Rounds without a ranking, by reason."""
    rows = [
        (row["reason"], formats.count(row["rounds"]), formats.percent(row["share_of_rounds"], 1))
        for row in _records(figures.unranked)
    ]
    return Table("Rounds without a ranking", ("Reason", "Rounds", "Share of rounds"), tuple(rows))


def accuracy_table(figures: RunFigures) -> Table:
    """How often fitted preference models agree with the data set's annotators on held-out pairs."""
    rows = [
        (row["reward_model"], row["subset"], formats.count(row["pairs"]), formats.percent(row["accuracy"], 1))
        for row in _records(figures.preference_accuracies)
    ]
    columns = ("Reward model", "Subset", "Pairs", "Accuracy")
    return Table("Reward models against people, on held-out pairs", columns, tuple(rows), text_columns=2)


def demonstration_table(figures: RunFigures) -> Table:
    """The static demonstration and the dynamic ones shown most often, earlier ones first among equals."""
    frame = figures.demonstrations
    order = frame.assign(static=frame["kind"] == "static").sort_values(
        ["static", "times_shown", "demonstration"], ascending=[False, False, True]
    )
    rows = [_demonstration(row) for row in _records(order.head(DEMONSTRATIONS_SHOWN))]
    columns = ("Admitted at", "Instruction", "Ranked best", "Ranked last", "Times shown")
    return Table("Demonstrations", columns, tuple(rows), text_columns=4)


def settings_table(figures: RunFigures) -> Table:
    """Every influential setting under its dotted key."""
    return Table("Settings", ("Setting", "Value"), tuple(_flat(figures.run.settings)), text_columns=2)


def identity_table(figures: RunFigures) -> Table:
    """What made these figures: profile, seed, models, code, machine, and where everything lies."""
    run = figures.run
    rows: list[tuple[str, str | None]] = [
        ("Profile", f"{run.profile}, seed {run.seed}"),
        ("White box", figures.setting("white_box.model")),
        ("Black box", f"{figures.setting('black_box.model')} ({figures.setting('black_box.endpoint')})"),
        ("Reward model", figures.primary.reward_model if figures.primary else None),
        ("Objective", run.baseline or figures.setting("method.objective")),
        ("State", f"{run.state}, {run.steps_done} of {run.steps} steps, {run.rounds} rounds"),
        ("Started", formats.moment(run.created_at)),
        ("Elapsed", formats.duration(run.elapsed_seconds)),
        ("Settings digest", run.settings_digest),
        ("Commit", run.git_commit),
        ("Baseline beside" if run.baseline else "Trained from the rounds of", run.source_run),
        ("Adapter", run.adapter_path),
        ("Weights, sha-256", run.weights_sha256),
        ("Ledger", run.ledger),
        ("Machine", _listed(run.machine)),
        ("Versions", _listed(run.package_versions)),
    ]
    return Table("This run", ("", ""), tuple((key, value) for key, value in rows if value), text_columns=2)


def _records(frame: pd.DataFrame) -> Iterable[Mapping[str, Any]]:
    """The frame's rows as mappings."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict(orient="records")]


def _drops(drops: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {formats.count(pairs)}" for reason, pairs in drops.items()) or formats.MISSING


def _demonstration(row: Mapping[str, Any]) -> tuple[str, ...]:
    best, last = (row["responses"][row["ranking"][index]] for index in (0, -1))
    static = row["kind"] == "static"
    admitted = "before the run" if static else f"step {int(row['step'])}, round {int(row['round'])}"
    texts = (clip(text, EXCERPT) for text in (row["instruction"], best, last))
    return admitted, *texts, formats.count(row["times_shown"])


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in mapping.items())
