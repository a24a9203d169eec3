"""The written report: complete, self-contained, deterministic, and harmless whatever the models wrote."""

import dataclasses
import io
import json
import re
from pathlib import Path

import duckdb
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from cyclealign.errors import StorageFull
from cyclealign.report.artifacts import artifact_markdown, reward_table_rows
from cyclealign.report.figures import Case, RunFigures, as_json, rule_name, spread
from cyclealign.report.files import ReportFiles, write_report
from cyclealign.report.notes import honesty_notes
from cyclealign.report.plots import draw_plots
from cyclealign.report.terminal import summary_lines
from storage.figures import collect
from storage.ledger import Ledger
from tests.full_disk import files_up_to
from tests.report.page import Page

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
    return write_report(figures, draw_plots(figures), tmp_path_factory.mktemp("report") / "of" / "a-run")


@pytest.fixture
def unfinished(tmp_path: Path) -> RunFigures:
    """A run that was registered and has done nothing."""
    ledger = Ledger(tmp_path)
    with ledger.session():
        pass
    ledger.close()
    with duckdb.connect(ledger.path) as connection:
        columns = "run_name, profile, seed, settings, settings_digest, operational_settings, steps, state"
        others = "package_versions, machine, created_at, updated_at"
        values = "'new', 'laptop', 0, '{}', 'd', '{}', 10, 'running', '{}', '{}', now(), now()"
        connection.execute(f"insert into runs ({columns}, {others}) values ({values})")
    return collect(ledger, "new")


def test_the_page_has_every_section_and_needs_nothing_else(files: ReportFiles) -> None:
    text = files.html.read_text()
    page = Page(text)
    for section in SECTIONS:
        assert f"<h2>{section}</h2>" in text
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    fetched = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset"}]
    assert all(value.startswith("#") for value in fetched)
    assert "url(http" not in text


def test_ids_on_the_page_are_unique_and_references_lead_somewhere(files: ReportFiles) -> None:
    page = Page(files.html.read_text())
    assert len(page.ids) == len(set(page.ids))
    references = {value[1:] for name, value in page.attributes if name in {"href", "xlink:href"}}
    assert references <= set(page.ids)


def test_markdown_has_the_same_sections_and_shows_its_plots_from_beside_it(files: ReportFiles) -> None:
    text = files.markdown.read_text()
    for section in SECTIONS:
        assert f"\n## {section}\n" in text
    images = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert [files.markdown.parent / image for image in images] == list(files.plots)
    assert all(path.is_file() for path in files.plots)


def test_every_markdown_table_is_one(files: ReportFiles) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", files.markdown.read_text(), flags=re.MULTILINE)
    parser = MarkdownIt("commonmark").enable("table")
    for block in blocks:
        tokens = parser.parse(block)
        assert tokens[0].type == "table_open"
        assert sum(token.type == "tr_open" for token in tokens) == block.count("\n") - 1
    assert len(blocks) > 10


def test_plots_are_small_pictures(files: ReportFiles) -> None:
    for path in files.plots:
        assert path.stat().st_size <= 60_000
        with Image.open(path) as picture:
            assert picture.width > 1000


def test_figures_json_is_what_the_command_line_prints(files: ReportFiles, figures: RunFigures) -> None:
    read = json.loads(files.figures_json.read_text())
    assert read == json.loads(json.dumps(as_json(figures)))
    assert read["run"]["name"] == "laptop-0"
    assert read["rewards"][0]["rows"][-1]["difference"]["n"] == 120
    assert read["filter"][0]["drops"] == {"identical_replies": 16, "turn_counts_differ": 3}
    assert read["demonstrations"][0]["ranking"] == [2, 1, 0]


def test_the_same_figures_give_the_same_files(figures: RunFigures, files: ReportFiles, tmp_path: Path) -> None:
    again = write_report(figures, draw_plots(figures), tmp_path)
    assert again.html.read_bytes() == files.html.read_bytes()
    assert again.markdown.read_bytes() == files.markdown.read_bytes()
    assert [path.read_bytes() for path in again.plots] == [path.read_bytes() for path in files.plots]


def test_a_report_that_does_not_fit_is_told(figures: RunFigures, tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=r"could not be written: File too large"), files_up_to(10_000):
        write_report(figures, draw_plots(figures), tmp_path)
    assert write_report(figures, draw_plots(figures), tmp_path).html.exists()


def test_the_terminal_tells_rewards_cases_cost_and_paths(figures: RunFigures) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    for block in summary_lines(figures, Path("runs/laptop-0/report.html")):
        console.print(block)
    shown = out.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= 80
    for wanted in (
        "helpful-rejection-sampled",
        "120",
        "Before",
        "After",
        "95% interval",
        "$0.00",
        "adapter",
        "report.html",
    ):
        assert wanted in shown
    assert shown.count("Prompt: ") == 3


def test_the_artifact_holds_its_plots_itself(figures: RunFigures) -> None:
    text = artifact_markdown(figures, draw_plots(figures))
    assert text.count("](data:image/png;base64,") == 3
    assert "<svg" not in text


def test_table_rows_for_the_ui_are_plain_values(figures: RunFigures) -> None:
    rows = reward_table_rows(figures)
    assert len(rows) == 4 * 5
    assert (rows[0]["reward model"], rows[0]["subset"], rows[0]["n"]) == ("reward-head", "harmless-base", 30)
    json.dumps(rows)


def test_a_run_that_has_done_nothing_still_has_a_report(unfinished: RunFigures, tmp_path: Path) -> None:
    files = write_report(unfinished, draw_plots(unfinished), tmp_path)
    text = files.html.read_text()
    assert "Nothing has been evaluated yet" in text
    assert "0 of 10" in text
    assert files.plots == ()
    assert summary_lines(unfinished)
    assert reward_table_rows(unfinished) == []


def test_notes_tell_that_one_seed_is_one_seed(figures: RunFigures) -> None:
    assert any("not with another seed" in note for note in honesty_notes(figures))


def test_notes_tell_when_judge_and_reward_model_are_related(figures: RunFigures) -> None:
    settings = {"black_box": {"endpoint": "preference"}, "evaluation": {"reward_model": "preference"}}
    related = dataclasses.replace(figures, run=dataclasses.replace(figures.run, settings=settings))
    notes = " ".join(honesty_notes(related))
    assert "not independent witnesses" in notes
    assert "reward-head and fitted-judge correlate 0.87 over 480 held-out pairs" in notes
    assert "Gains under judge-head" in notes


def test_notes_tell_when_the_interval_contains_zero(figures: RunFigures) -> None:
    well_formedness = figures.rewards[2]
    assert well_formedness.reward_model == "world:well-formedness"
    other = dataclasses.replace(figures, rewards=(well_formedness,))
    assert any("contains 0" in note for note in honesty_notes(other))


def test_notes_tell_when_the_data_are_not_all_of_the_papers(figures: RunFigures) -> None:
    assert not any("Table 6" in note for note in honesty_notes(figures))
    fewer = figures.filter.assign(rows_read=figures.filter["rows_read"] - 1)
    assert any("Table 6" in note for note in honesty_notes(dataclasses.replace(figures, filter=fewer)))


def test_notes_tell_when_rewards_of_candidates_are_missing(figures: RunFigures) -> None:
    told = "Candidates were left without rewards"
    assert any(told in note for note in honesty_notes(dataclasses.replace(figures, unscored=True)))
    assert not any(told in note for note in honesty_notes(figures))


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(120, 3, [0, 60, 119]), (121, 3, [0, 60, 120]), (2, 3, [0, 1]), (5, 1, [2]), (0, 3, []), (9, 5, [0, 2, 4, 6, 8])],
)
def test_cases_are_spread_evenly(count: int, wanted: int, places: list[int]) -> None:
    assert spread(count, wanted) == places


def test_a_case_says_why_it_was_chosen() -> None:
    assert [rule_name(index, 1) for index in range(1)] == ["median gain"]
    assert [rule_name(index, 5) for index in range(5)][1:4] == [
        "25 % of the way from the largest to the smallest gain",
        "median gain",
        "75 % of the way from the largest to the smallest gain",
    ]


def test_a_long_dialogue_keeps_its_last_turn_in_a_terminal(figures: RunFigures) -> None:
    long: Case = dataclasses.replace(figures.cases[0], instruction="Human: early. " * 100 + "Human: the last one")
    out = io.StringIO()
    for block in summary_lines(dataclasses.replace(figures, cases=(long,))):
        Console(file=out, width=80).print(block)
    assert "Human: the last one" in re.sub(r"\s+", " ", out.getvalue())
