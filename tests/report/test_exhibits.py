"""Exhibits as they are shown: intervals, the paper beside ours, every format, every picture."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cyclealign.errors import UsageError
from cyclealign.records import SUBSETS
from cyclealign.report.catalogue import CATALOGUE, Intervals, column, percent
from cyclealign.report.companion_tables import agreement_tables
from cyclealign.report.exhibit_formats import as_latex, as_markdown, plot_of, write_plot
from cyclealign.report.exhibits import Exhibit, compose, paper_rows, wanted, with_intervals
from cyclealign.statistics import bootstrap_interval, seed_interval
from storage import exhibits, queries

HOSTILE = "\\input{/etc/passwd} $x$ & 50% #1 _{a}^{b} ~ | <b>[2]\x1b[31m\u202e\n# heading *"
SIDES = {"run_name": "a-run", "role": "after", "against": "before"}


def verdicts(*outcomes: str, judge: str = "Ann", kind: str = "person") -> list[dict[str, Any]]:
    """One judge's outcomes on prompts 0, 1, …; the first half harmless, the rest helpful."""
    return [
        {
            **SIDES,
            "subset": "harmless-base" if 2 * number < len(outcomes) else "helpful-base",
            "prompt_id": f"p{number}",
            "judge": judge,
            "judge_kind": kind,
            "outcome": outcome,
        }
        for number, outcome in enumerate(outcomes)
    ]


def table_3(rows: list[dict[str, Any]] | None = None) -> Exhibit:
    singles = pd.DataFrame(rows or verdicts("win", "win", "lose", "tie", "win", "lose"))
    counted = {"annotators": 1, "verdicts": 6, "prompts": 6, "win": 50.0, "tie": 100 / 6, "lose": 200 / 6}
    shown = pd.DataFrame([{**SIDES, "subset": "all", **counted}])
    return compose("table_3", "Win, tie and lose", shown, {"table_3_verdicts": singles})


def test_a_mean_has_the_interval_of_its_single_values_over_prompts() -> None:
    (row,) = table_3().frame[lambda frame: frame["source"] == "ours"].to_dict("records")
    expected = bootstrap_interval([100.0, 100.0, 0.0, 0.0, 100.0, 0.0])
    assert (row["win"], row["win_low"], row["win_high"]) == (expected.mean, expected.low, expected.high)


def test_several_annotators_of_a_prompt_are_one_unit_of_chance() -> None:
    rows = [*verdicts("win", "win", "lose"), *verdicts("win", "lose", "lose", judge="Ben")]
    shown = pd.DataFrame([{**SIDES, "subset": "all", "win": 50.0}])
    spec = Intervals("table_3_verdicts", ("run_name", "role", "against", "subset"), {"win": percent("win")})
    (row,) = with_intervals(shown, pd.DataFrame(rows), spec).to_dict("records")
    expected = bootstrap_interval([100.0, 50.0, 0.0])
    assert (row["win_low"], row["win_high"]) == (expected.low, expected.high)


def test_an_interval_over_seeds_is_students() -> None:
    singles = pd.DataFrame({"profile": "p", "subset": "all", "run_name": ["a", "b", "c"], "reward": [1.0, 2.0, 4.0]})
    shown = pd.DataFrame([{"profile": "p", "subset": "all", "mean": 7 / 3}])
    spec = Intervals("table_4_runs", ("profile", "subset"), {"mean": column("reward")}, unit="run_name")
    (row,) = with_intervals(shown, singles, spec).to_dict("records")
    expected = seed_interval([1.0, 2.0, 4.0])
    assert (row["mean_low"], row["mean_high"]) == (expected.low, expected.high)


def test_a_row_without_single_values_has_no_interval() -> None:
    shown = pd.DataFrame([{**SIDES, "subset": "helpful-online", "win": 50.0}])
    spec = Intervals("table_3_verdicts", ("run_name", "role", "against", "subset"), {"win": percent("win")})
    (row,) = with_intervals(shown, pd.DataFrame(verdicts("win", "lose")), spec).to_dict("records")
    assert pd.isna(row["win_low"])


def test_the_papers_rows_are_marked_as_the_papers() -> None:
    exhibit = table_3()
    paper = exhibit.frame[exhibit.frame["source"] == "paper"]
    assert paper[["subset", "win", "tie", "lose"]].to_numpy().tolist()[0] == ["harmless-base", 69, 9, 22]
    assert len(paper) == 4
    assert paper["win_low"].isna().all()
    assert any("not measured here" in note for note in exhibit.notes)


def test_without_rows_of_ours_the_paper_stands_alone_and_a_note_says_so() -> None:
    nothing = pd.DataFrame(columns=[*SIDES, "subset", "win", "tie", "lose"])
    singles = pd.DataFrame(columns=list(verdicts("win")[0]))
    exhibit = compose("table_3", "Win, tie and lose", nothing, {"table_3_verdicts": singles})
    assert set(exhibit.frame["source"]) == {"paper"}
    assert "no rows for this yet" in exhibit.notes[0]


def test_every_share_of_the_papers_tables_2_and_3_adds_up_to_a_whole() -> None:
    for name in ("table_2", "table_3"):
        rows = paper_rows(name)
        assert rows is not None
        assert (rows[["win", "tie", "lose"]].sum(axis=1) == 100).all()


def test_annotators_agreement_and_their_majoritys_with_a_model() -> None:
    people = [*verdicts("win", "win", "lose", "tie"), *verdicts("win", "win", "lose", "lose", judge="Ben")]
    model = verdicts("win", "lose", "lose", "tie", judge="gpt", kind="model")
    (table,) = agreement_tables(pd.DataFrame([*people, *model]))
    annotators, majority = table.rows
    # equal 3/4; p_e = (2·2 + 1·2 + 1·0)/16 = 6/16; kappa = (12/16 - 6/16)/(10/16) = 0.6
    assert annotators[3:8] == ("annotators", "Cohen's kappa", "2", "4", "75 %")
    assert annotators[8].startswith("0.60 (")
    # the fourth prompt has no majority, so it is a tie: equal 3/4, p_e = (2·1 + 1·2 + 1·1)/16 = 5/16, kappa 7/11
    assert majority[3] == "majority of annotators and gpt"
    assert majority[8].startswith("0.64 (")


def test_agreement_stands_below_table_3_and_not_where_one_person_judged() -> None:
    assert len(table_3().tables) == 1
    rows = [*verdicts("win", "tie", "lose"), *verdicts("win", "tie", "win", judge="Ben")]
    assert "Agreement" in table_3(rows).tables[1].caption


def table_5(response: str = HOSTILE) -> Exhibit:
    return compose("table_5", "Cases", pd.DataFrame([{"chosen": "largest", "response": response, "reward": -1.5}]), {})


def test_latex_acts_upon_nothing_that_a_cell_holds() -> None:
    latex = as_latex(table_5())
    row = next(line for line in latex.splitlines() if line.startswith("largest"))
    bare = row.removesuffix(r" \\")
    for command in (r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}", r"\textbar{}"):
        bare = bare.replace(command, "")
    for command in (r"\textless{}", r"\textgreater{}", "$-$", "{[}", "{*}"):
        bare = bare.replace(command, "")
    assert re.sub(r"\\[#$%&_{}]", "", bare).count("&") == 2
    assert not re.search(r"[\\$%#_{}^~\[*]", re.sub(r"\\[#$%&_{}]", "", bare))
    assert "\x1b" not in latex
    assert latex.count(r"\begin") == latex.count(r"\end") == 2


def test_markdown_shows_a_cell_literally_in_one_line() -> None:
    markdown = as_markdown(table_5())
    row = next(line for line in markdown.splitlines() if line.startswith("| largest"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert "<b>" not in row.replace(r"\<b\>", "")
    assert "\x1b" not in markdown


def test_a_wide_table_has_the_papers_columns_and_tells_what_all_rows_share() -> None:
    rows = [
        {"run_name": "a-run", "reward_model": "rm", "role": role, "subset": subset, "responses": 2, "mean_reward": 0.5}
        for role in ("after", "before")
        for subset in ("all", "harmless-base")
    ]
    scores = [
        {**{key: row[key] for key in ("run_name", "reward_model", "role")}, "subset": "harmless-base"}
        | {"prompt_id": f"p{number}", "reward": 0.4 + 0.2 * number}
        for row in rows[::2]
        for number in range(2)
    ]
    shown = pd.DataFrame([{**row, "sigmoid_mean_100": 62.0} for row in rows])
    exhibit = compose("table_1", "Mean reward", shown, {"table_1_scores": pd.DataFrame(scores)})
    first = exhibit.tables[0]
    assert first.columns == ("source", "role", "responses", *SUBSETS, "Total")
    assert first.caption == "Mean reward: sigmoid_mean_100; run_name a-run; reward_model rm"
    assert first.rows[0][:3] == ("ours", "after", "2")
    assert first.rows[-1] == ("paper", "CycleAlign PRO, Alpaca", "–", "71.32", "67.89", "66.53", "68.92", "68.97")
    assert "Difference" in exhibit.tables[-1].caption


def test_the_papers_table_4_stands_by_the_demonstrations_it_left_out() -> None:
    rows = paper_rows("table_4")
    assert rows is not None
    totals = rows[rows["subset"] == "all"].set_index("icl")["sigmoid_mean_100"].to_dict()
    assert totals == {"full": 68.97, "static": 67.36, "off": 66.88}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_whatever_the_catalogue_names_has_its_sql_file_with_those_columns(name: str) -> None:
    for one in {name, *wanted(name)}:
        assert one.replace("_", "-") in exhibits.known()
    spec = CATALOGUE[name].intervals
    if spec is not None:
        for column_name in (*spec.by, *spec.means):
            assert re.search(rf"\b{column_name}\b", queries.load(f"exhibits/{name}")), column_name
        for column_name in (*spec.by, spec.unit):
            assert re.search(rf"\b{column_name}\b", queries.load(f"exhibits/{spec.rows}")), column_name


def test_bars_curves_and_points_are_drawn() -> None:
    bars = plot_of(table_3())
    curve = pd.DataFrame({"first_step": [0, 4], "last_step": [3, 7], "agreement": [0.5, 0.7]})
    points = pd.DataFrame({"subset": ["all"], "role": ["after"], "mean_reward": [0.5], "reward_model": ["rm"]})
    lines = plot_of(compose("run_agreement", "Agreement", curve, {}))
    means = plot_of(compose("run_rewards", "Rewards", points, {}))
    for plot in (bars, lines, means):
        assert plot is not None
        assert plot.png.startswith(b"\x89PNG")


def test_a_picture_is_a_png_or_a_self_contained_svg(tmp_path: Path) -> None:
    for name in ("plot.png", "plot.svg"):
        write_plot(table_3(), tmp_path / name)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "plot.svg").read_text()
    assert "var(--" not in svg
    assert "<script" not in svg
    assert not re.search(r'(?:href|src)="(?!#)', svg)


def test_what_cannot_be_drawn_says_what_can(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        write_plot(table_3(), tmp_path / "plot.pdf")
    with pytest.raises(UsageError, match=r"table-5 is not drawn.*table-3"):
        write_plot(table_5(), tmp_path / "plot.png")
