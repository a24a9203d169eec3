"""What stands on the page, in words and tables, before anybody decides between HTML and Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass

from cyclealign.report import formats, run_tables, tables
from cyclealign.report.figures import Case, RunFigures
from cyclealign.report.notes import honesty_notes
from cyclealign.report.tables import Table


@dataclass(frozen=True)
class Card:
    """One figure that is seen first."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class ShownCase:
    """A case with its figures written out."""

    rule: str
    gain: str
    subset: str
    prompt_id: str
    instruction: str
    before: str
    after: str
    reward_before: str
    reward_after: str


@dataclass(frozen=True)
class Page:
    """The report's content; sections without figures are empty or None and left out."""

    lead: str
    cards: tuple[Card, ...]
    reward: tuple[Table, ...]
    reward_reading: str
    notes: tuple[str, ...]
    text: tuple[Table, ...]
    measures: tuple[Table, ...]
    case_rule: str
    cases: tuple[ShownCase, ...]
    course: Table | None
    demonstrations: Table | None
    demonstration_reading: str
    spend: Table
    filter: Table | None
    accuracy: tuple[Table, ...]
    timings: Table
    unranked: Table | None
    identity: Table
    settings: Table


def compose(figures: RunFigures) -> Page:
    """The page of these figures."""
    primary = figures.primary
    return Page(
        lead=_lead(figures),
        cards=tuple(_cards(figures)),
        reward=(tables.reward_table(primary),) if primary else (),
        reward_reading=READING,
        notes=tuple(honesty_notes(figures)),
        text=(tables.text_table(figures),) if figures.texts else (),
        measures=tuple(_measures(figures)),
        case_rule=case_rule(figures),
        cases=tuple(_shown(case) for case in figures.cases),
        course=tables.course_table(figures) if len(figures.agreement) else None,
        demonstrations=run_tables.demonstration_table(figures) if len(figures.demonstrations) else None,
        demonstration_reading=_demonstration_reading(figures),
        spend=run_tables.spend_table(figures),
        filter=run_tables.filter_table(figures) if len(figures.filter) else None,
        accuracy=(run_tables.accuracy_table(figures),) if len(figures.preference_accuracies) else (),
        timings=run_tables.timings_table(figures),
        unranked=run_tables.unranked_table(figures) if len(figures.unranked) else None,
        identity=run_tables.identity_table(figures),
        settings=run_tables.settings_table(figures),
    )


LESSONS = {
    "sft": "trained on the chosen replies of the data set's own pairs (SFT)",
    "rrhf": "trained on the data set's own pairs (RRHF)",
    "pro": "trained on the data set's own pairs (PRO)",
    "dpo": "trained on the data set's own pairs (DPO)",
    "rl": "trained on the rewards of its own responses (RLOO with PPO's clipped objective)",
}
"""What each baseline learns from."""
READING = (
    "Means over held-out prompts with 95% bootstrap intervals in parentheses; differences, after minus "
    "before, are paired by prompt. Win, tie and lose are the shares of prompts whose reward rose, stayed "
    "and fell."
)


def case_rule(figures: RunFigures) -> str:
    """How the cases were chosen, as a sentence."""
    if figures.primary is None or not figures.cases:
        return ""
    total, shown = formats.count(figures.primary.overall.n), len(figures.cases)
    measure = f"gain in reward by {figures.primary.reward_model}"
    if shown == 3:
        return (
            f"Chosen by rule, not by hand: of {total} prompts those with the largest, the median and the "
            f"smallest {measure}."
        )
    return f"Chosen by rule, not by hand: {shown} of {total} prompts, spread evenly by {measure}."


def _measures(figures: RunFigures) -> Iterator[Table]:
    """Every other reward model, then the primary one on the paper's scale."""
    yield from (tables.reward_table(table) for table in figures.rewards[1:])
    if figures.primary is not None:
        yield tables.scale_table(figures.primary)


def _lead(figures: RunFigures) -> str:
    run = figures.run
    commit = f", commit {run.git_commit[:12]}" if run.git_commit else ""
    return (
        f"CycleAlign · profile {run.profile}, seed {run.seed}{commit} · "
        f"{figures.setting('white_box.model')} {_lesson(figures)}"
    )


def _lesson(figures: RunFigures) -> str:
    """What the run learnt from."""
    run, black_box = figures.run, figures.setting("black_box.model")
    if run.kind == "baseline":
        return LESSONS[str(run.baseline)]
    if run.kind == "refold":
        return f"trained again on the rounds of {run.source_run}, ranked by {black_box}"
    return f"ranked by {black_box}"


def _cards(figures: RunFigures) -> list[Card]:
    run, cards = figures.run, []
    if figures.primary is not None:
        row = figures.primary.overall
        bounds = f"95% interval {formats.signed(row.difference.low)} to {formats.signed(row.difference.high)}"
        cards = [
            Card("Reward, after − before", formats.signed(row.difference.mean), f"{bounds}, n = {row.n:,}"),
            Card("Won / lost", f"{formats.percent(row.win)} / {formats.percent(row.lose)}", "of held-out prompts"),
        ]
    progress = f"{formats.count(run.steps_done)} of {formats.count(run.steps)}"
    return [
        *cards,
        Card("Steps", progress, f"{formats.count(run.rounds)} rounds, {run.state}"),
        Card("Spent", formats.usd(figures.spent_usd), f"{formats.count(figures.spend['calls'].sum())} calls"),
        Card("Elapsed", formats.duration(run.elapsed_seconds), f"started {formats.moment(run.created_at)}"),
    ]


def _shown(case: Case) -> ShownCase:
    return ShownCase(
        rule=case.rule,
        gain=formats.signed(case.reward_after - case.reward_before),
        subset=case.subset,
        prompt_id=case.prompt_id,
        instruction=case.instruction,
        before=case.before,
        after=case.after,
        reward_before=formats.number(case.reward_before),
        reward_after=formats.number(case.reward_after),
    )


def _demonstration_reading(figures: RunFigures) -> str:
    frame = figures.demonstrations
    dynamic = frame[frame["kind"] == "dynamic"]
    return (
        f"{formats.count(len(dynamic))} agreement rankings were admitted as dynamic demonstrations and "
        f"shown {formats.count(float(dynamic['times_shown'].sum()))} times in all. Below: the static one "
        "and the dynamic ones that were shown most often."
    )
