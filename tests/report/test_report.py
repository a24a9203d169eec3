"""The report of a run: its figures are those of the rows; complete, self-contained, deterministic."""

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from cyclealign.errors import RunUnknown, StorageFull
from cyclealign.records import SUBSETS
from cyclealign.report.blocks import Title
from cyclealign.report.companions import order_reward_models
from cyclealign.report.figures import RunFigures, rule_name, spread
from cyclealign.report.notes import honesty_notes
from cyclealign.report.page import LESSONS, report, reward_tables, summary
from cyclealign.report.render import ReportFiles, in_one, terminal, write_report
from storage.exhibits import read_report
from storage.ledger import Ledger
from storage.runs import Baseline
from tests.full_disk import files_up_to
from tests.plain_ledger import PlainLedger
from tests.report.conftest import RUN
from tests.report.test_hostile import Page
from tests.sql.rows import register

SECTIONS = (
    "Reward before and after",
    "Other measures",
    "The same prompt, before and after",
    "The course of the run",
    "Demonstrations",
    "Spend",
    "Data",
    "Time",
    "Rounds without a ranking",
    "What this run is",
)


@pytest.fixture(scope="module")
def files(figures: RunFigures, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(figures, report(figures), tmp_path_factory.mktemp("report") / "of" / "a-run")


def printed(figures: RunFigures, report_file: Path | None = None) -> str:
    out = io.StringIO()
    for block in terminal(summary(figures, report_file)):
        Console(file=out, width=80).print(block)
    return out.getvalue()


def changed(figures: RunFigures, run: dict[str, Any] | None = None, **frames: Any) -> RunFigures:
    """The same figures with other values of the run, and other frames."""
    return dataclasses.replace(figures, run={**figures.run, **(run or {})}, frames={**figures.frames, **frames})


def test_an_unknown_run_is_refused_with_those_that_exist(ledger: Ledger) -> None:
    with pytest.raises(RunUnknown, match=RUN):
        read_report(ledger, "nobody")


def test_rewards_go_by_the_papers_subsets_and_the_gain_that_was_put_in_is_found(figures: RunFigures) -> None:
    gains = figures.frames["gains"]
    assert list(figures.overall) == ["reward-head", "world:quality", "world:well-formedness", "judge-head"]
    for name, row in figures.overall.items():
        rows = figures.gains_by(name)
        assert list(rows["subset"]) == [*SUBSETS, "all"]
        assert row["n"] == rows["n"].iloc[:-1].sum() == 120
    assert gains["difference"].to_list() == pytest.approx((gains["after"] - gains["before"]).to_list())
    assert ((gains["difference_low"] <= gains["difference"]) & (gains["difference"] <= gains["difference_high"])).all()
    assert (gains["won"] + gains["tied"] + gains["lost"]).to_list() == pytest.approx([1] * len(gains))
    assert figures.primary is not None
    assert figures.primary["difference_low"] > 0


@pytest.mark.parametrize(
    ("names", "primary", "ordered"),
    [
        (["judge", "world:quality", "held-out", "another"], None, ["another", "world:quality", "held-out", "judge"]),
        (["judge", "held-out"], "judge", ["judge", "held-out"]),
        (["world:well-formedness", "world:quality"], None, ["world:quality", "world:well-formedness"]),
        ([], None, []),
    ],
    ids=["independent", "named", "truths", "none"],
)
def test_the_claim_rests_on_an_independent_reward_model(
    names: list[str], primary: str | None, ordered: list[str]
) -> None:
    assert order_reward_models(names, primary) == ordered


def test_cases_are_the_largest_the_median_and_the_smallest_gain(figures: RunFigures) -> None:
    gains = [case["gain"] for case in figures.cases]
    assert [case["rule"] for case in figures.cases] == ["largest gain", "median gain", "smallest gain"]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(120, 3, [0, 60, 119]), (121, 3, [0, 60, 120]), (2, 3, [0, 1]), (5, 1, [2]), (0, 3, []), (9, 5, [0, 2, 4, 6, 8])],
)
def test_cases_are_spread_evenly_and_say_why_they_were_chosen(count: int, wanted: int, places: list[int]) -> None:
    assert spread(count, wanted) == places
    assert rule_name(0, 1) == "median gain"
    assert [rule_name(place, 5).partition(" of")[0] for place in range(1, 4)] == ["25 %", "median gain", "75 %"]


def test_other_figures_are_those_that_the_rows_imply(figures: RunFigures) -> None:
    text = figures.frames["text"].set_index(["subset", "role"]).loc["all"]
    assert text["mean_tokens"]["after"] > text["mean_tokens"]["before"]
    assert 0 < text["distinct_2"]["before"] < 1
    assert set(figures.frames["ranking_accuracy"]["reward_model"]) == {"world:quality"}
    assert figures.correlations["judge-head"] > 0.9
    assert figures.setting("method.rounds") == 5
    assert figures.setting("method.nothing.below") is None


def test_the_page_has_every_section_and_needs_nothing_else(files: ReportFiles) -> None:
    text = files.html.read_text()
    page = Page(text)
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", text) == list(SECTIONS)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    fetched = {value for name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset"}}
    assert all(value.startswith("#") for value in fetched)
    assert "url(http" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {value[1:] for value in fetched} <= set(page.ids)


def test_markdown_has_the_same_sections_and_shows_its_plots_from_beside_it(files: ReportFiles) -> None:
    text = files.markdown.read_text()
    assert re.findall(r"\n## (.*)\n", text) == list(SECTIONS)
    images = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert [files.markdown.parent / image for image in images] == list(files.plots)
    for path in files.plots:
        assert path.stat().st_size <= 60_000
        with Image.open(path) as picture:
            assert picture.width > 1000


def test_every_markdown_table_is_one(files: ReportFiles) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", files.markdown.read_text(), flags=re.MULTILINE)
    parser = MarkdownIt("commonmark").enable("table")
    for block in blocks:
        tokens = parser.parse(block)
        assert tokens[0].type == "table_open"
        assert sum(token.type == "tr_open" for token in tokens) == block.count("\n") - 1
    assert len(blocks) > 10


def test_figures_json_holds_every_exhibit_in_plain_values(files: ReportFiles, figures: RunFigures) -> None:
    read = json.loads(files.figures_json.read_text())
    assert read == json.loads(json.dumps(figures.as_json()))
    assert read["run"]["name"] == "laptop-0"
    assert read["gains"][4]["subset"] == "all"
    assert read["filter"][0]["drops"] == {"identical_replies": 16, "turn_counts_differ": 3}
    assert read["demonstrations"][0]["ranking"] == [2, 1, 0]


def test_the_same_ledger_gives_the_same_files(ledger: Ledger, files: ReportFiles, tmp_path: Path) -> None:
    figures = read_report(ledger, RUN)
    again = write_report(figures, report(figures), tmp_path)
    for one, other in zip((*again[:3], *again.plots), (*files[:3], *files.plots), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_report_that_does_not_fit_says_so(figures: RunFigures, tmp_path: Path) -> None:
    blocks = report(figures)
    with pytest.raises(StorageFull, match=r"could not be written: File too large"), files_up_to(10_000):
        write_report(figures, blocks, tmp_path)
    assert write_report(figures, blocks, tmp_path).html.exists()


def test_the_terminal_shows_rewards_cases_cost_and_paths(figures: RunFigures) -> None:
    shown = printed(figures, Path("runs/laptop-0/report.html"))
    assert max(len(line) for line in shown.splitlines()) <= 80
    for wanted in ("helpful-rejection-sampled", "120", "Before", "After", "$0.00", "Adapter", "report.html"):
        assert wanted in shown
    assert shown.count("Prompt") == 3


def test_a_long_dialogue_keeps_its_last_turn_in_a_terminal(figures: RunFigures) -> None:
    case = {**figures.cases[0], "instruction": "Human: early. " * 100 + "Human: the last one"}
    assert "the last one" in re.sub(r"\s+", " ", printed(dataclasses.replace(figures, cases=[case])))


def test_the_artifact_holds_its_plots_itself(figures: RunFigures) -> None:
    text = in_one(report(figures))
    assert text.count("](data:image/png;base64,") == 5
    assert "<svg" not in text


def test_a_run_that_has_done_nothing_still_has_a_report(tmp_path: Path) -> None:
    ledger = PlainLedger(tmp_path)
    register(ledger.connection, "new", settings="{}", steps=10, state="running", finished_at=None)
    unfinished = read_report(ledger, "new")
    files = write_report(unfinished, report(unfinished), tmp_path)
    assert "Nothing has been evaluated yet" in files.html.read_text()
    assert "0 of 10" in files.markdown.read_text()
    assert files.plots == ()
    assert printed(unfinished)
    assert reward_tables(unfinished) == []


def test_notes_say_what_a_single_run_does_not_show(figures: RunFigures) -> None:
    notes = honesty_notes(figures)
    assert any("not with another seed" in note for note in notes)
    assert not any("Table 6" in note or "Candidates were left" in note for note in notes)
    gains = figures.frames["gains"]
    flat = changed(figures, gains=gains[gains["reward_model"] == "world:well-formedness"])
    assert any("contains 0" in note for note in honesty_notes(flat))
    fewer = figures.frames["filter"].assign(rows_read=1)
    assert any("Table 6" in note for note in honesty_notes(changed(figures, filter=fewer)))
    unscored = honesty_notes(dataclasses.replace(figures, unscored=True))
    assert any("Candidates were left without rewards" in note for note in unscored)


def learnt(figures: RunFigures, reward_model: str, **run: str) -> RunFigures:
    """The same figures of a run of another kind, whose reward models are others."""
    settings = {**figures.run["settings"]}
    settings["black_box"] = {**settings["black_box"], "endpoint": reward_model}
    settings["evaluation"] = {**settings["evaluation"], "reward_model": reward_model}
    return changed(figures, {"settings": settings, **run})


def test_notes_say_when_judge_and_reward_model_are_related(figures: RunFigures) -> None:
    notes = " ".join(honesty_notes(learnt(figures, "preference")))
    assert "not independent witnesses" in notes
    assert "reward-head and fitted-judge correlate 0.87 over 480 held-out pairs" in notes
    assert "Gains under judge-head" in notes


@pytest.mark.parametrize("reward_model", ["world", "classifier", "preference"])
def test_notes_of_rl_say_how_what_it_maximised_stands_to_what_evaluates_it(
    figures: RunFigures, reward_model: str
) -> None:
    notes = " ".join(honesty_notes(learnt(figures, reward_model, kind="baseline", baseline="rl")))
    assert "RLOO" in notes
    assert "not PPO" in notes
    assert "ranked during training" not in notes
    related = "The reward model that was maximised in training and the reward model of this evaluation"
    own = f"the evaluation's own (evaluation.reward_model = {reward_model})"
    assert (related in notes, own in notes) == (reward_model == "preference", reward_model != "preference")


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
    title = report(learnt(figures, "world", **run))[0]
    assert isinstance(title, Title)
    assert lesson in title.lead
    assert run["kind"] != "baseline" or "ranked" not in title.lead
    assert set(LESSONS) == set(get_args(Baseline))
