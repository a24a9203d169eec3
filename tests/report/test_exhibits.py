"""Exhibits as they are shown: intervals, the paper beside ours, what stands below, every format, every picture."""

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cyclealign.errors import UsageError
from cyclealign.records import SUBSETS
from cyclealign.report.catalogue import CATALOGUE
from cyclealign.report.companions import agreement_tables, bias_tables, difference_tables, judge_notes
from cyclealign.report.exhibits import Exhibit, compose, paper_rows, wanted, with_intervals
from cyclealign.report.render import as_latex, exhibit_blocks, markdown, plot_of, write_plot
from cyclealign.statistics import bootstrap_interval, seed_interval
from storage import exhibits, queries

HOSTILE = "\\input{/etc/passwd} $x$ & 50% #1 _{a}^{b} ~ | <b>[2]\x1b[31m\u202e\n# heading *"
SIDES = {"run_name": "a-run", "role": "after", "against": "before"}
THREE = math.log(3)
"""sigmoid(log 3) is 0.75."""


def verdicts(*outcomes: str, judge: str = "Ann", kind: str = "person") -> list[dict[str, Any]]:
    """One judge's outcomes on prompts 0, 1, …; the first half harmless, the rest helpful."""
    return [
        {
            **SIDES,
            "subset": "harmless-base" if 2 * number < len(outcomes) else "helpful-base",
            **{"prompt_id": f"p{number}", "judge": judge, "judge_kind": kind, "outcome": outcome},
        }
        for number, outcome in enumerate(outcomes)
    ]


def table_3(rows: list[dict[str, Any]] | None = None) -> Exhibit:
    singles = pd.DataFrame(rows or verdicts("win", "win", "lose", "tie", "win", "lose"))
    counted = {"annotators": 1, "verdicts": 6, "prompts": 6, "win": 50.0, "tie": 100 / 6, "lose": 200 / 6}
    shown = pd.DataFrame([{**SIDES, "subset": "all", **counted}])
    return compose("table_3", "Win, tie and lose", {"table_3": shown, "table_3_verdicts": singles})


def bounds_of_table_3(singles: list[dict[str, Any]], subset: str = "all") -> tuple[float, float]:
    shown = pd.DataFrame([{**SIDES, "subset": subset, "win": 50.0}])
    rows = with_intervals("table_3", {"table_3": shown, "table_3_verdicts": pd.DataFrame(singles)})
    return rows["win_low"][0], rows["win_high"][0]


def test_a_mean_has_the_interval_of_its_single_values_over_prompts() -> None:
    (row,) = table_3().frame[lambda frame: frame["source"] == "ours"].to_dict("records")
    expected = bootstrap_interval([100.0, 100.0, 0.0, 0.0, 100.0, 0.0])
    assert (row["win"], row["win_low"], row["win_high"]) == (expected.mean, expected.low, expected.high)


def test_several_annotators_of_a_prompt_are_one_unit_of_chance() -> None:
    rows = [*verdicts("win", "win", "lose"), *verdicts("win", "lose", "lose", judge="Ben")]
    expected = bootstrap_interval([100.0, 50.0, 0.0])
    assert bounds_of_table_3(rows) == (expected.low, expected.high)


def test_a_row_without_single_values_has_no_interval() -> None:
    assert all(map(math.isnan, bounds_of_table_3(verdicts("win", "lose"), "helpful-online")))


def test_an_interval_over_seeds_is_students() -> None:
    conditions = dict.fromkeys(("profile", "other_settings", "reward_model", "objective", "icl", "rewrite"), "x")
    key = {**conditions, "rounds": 5, "subset": "all"}
    runs = [
        {**key, "run_name": name, "reward_after": value} for name, value in zip("abc", (1.0, 2.0, 4.0), strict=True)
    ]
    singles = pd.DataFrame(runs).assign(reward_before=0.0, sigmoid_after_100=50.0)
    rows = {"table_4": pd.DataFrame([{**key, "mean_reward": 7 / 3}]), "table_4_runs": singles}
    found, expected = with_intervals("table_4", rows), seed_interval([1.0, 2.0, 4.0])
    assert (found["mean_reward_low"][0], found["mean_reward_high"][0]) == (expected.low, expected.high)


def test_the_papers_rows_are_marked_as_the_papers_also_where_there_are_none_of_ours() -> None:
    exhibit = table_3()
    paper = exhibit.frame[exhibit.frame["source"] == "paper"]
    assert paper[["subset", "win", "tie", "lose"]].to_numpy().tolist()[0] == ["harmless-base", 69, 9, 22]
    assert paper["win_low"].isna().all()
    assert any("not measured here" in note for note in exhibit.notes)
    nothing = pd.DataFrame(columns=[*SIDES, "subset", "win", "tie", "lose"])
    rows = {"table_3": nothing, "table_3_verdicts": pd.DataFrame(columns=list(verdicts("win")[0]))}
    alone = compose("table_3", "Win, tie and lose", rows)
    assert set(alone.frame["source"]) == {"paper"}
    assert "no rows for this yet" in alone.notes[0]


def test_the_papers_figures_are_those_of_its_tables() -> None:
    for name in ("table_2", "table_3"):
        rows = paper_rows(name)
        assert rows is not None
        assert (rows[["win", "tie", "lose"]].sum(axis=1) == 100).all()
    ablations = paper_rows("table_4")
    assert ablations is not None
    totals = ablations[ablations["subset"] == "all"].set_index("icl")["sigmoid_mean_100"].to_dict()
    assert totals == {"full": 68.97, "static": 67.36, "off": 66.88}


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
    assert agreement_tables(pd.DataFrame(people[:4])) == []


def test_differences_are_paired_over_the_prompts_that_both_have_on_the_scale_of_the_reward_model() -> None:
    rewards = {"after": [THREE, THREE], "before": [0.0, 0.0], "PRO": [0.0]}
    rows = [
        {"run_name": "r", "reward_model": model, "role": role, "prompt_id": f"p{place}", "reward": reward}
        | {"subset": "helpful-base" if place else "harmless-base"}
        for model in ("rm", "world:quality")
        for role, listed in rewards.items()
        for place, reward in enumerate(listed)
    ]
    sigmoids, known = difference_tables(pd.DataFrame(rows))
    assert sigmoids.columns == ("Against", "n", "harmless-base", "helpful-base", "Total")
    assert [row[:2] for row in sigmoids.rows] == [("before", "2"), ("PRO", "1")]
    assert sigmoids.rows[0][-1].startswith("+25.00 (")
    assert known.rows[0][-1].startswith("+1.099 (")
    alone = [row for row in rows if row["role"] == "after"]
    assert difference_tables(pd.DataFrame(alone)) == []


def test_the_judges_leanings_stand_beside_its_verdicts() -> None:
    shown = {**SIDES, "judge": "j", "first_length": 9, "second_length": 2}
    rows = [{**shown, "verdict": word, "prompt_id": word} for word in ("first", "second", "tie")]
    (table,) = bias_tables(pd.DataFrame(rows))
    ((role, against, decided, first, longer),) = table.rows
    assert (role, against, decided, first[:2], longer[:2]) == ("after", "before", "2", "50", "50")


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        pytest.param("gpt-4.1 (https://api.openai.com/v1, 1a)", "no independent evidence", id="the same model"),
        pytest.param("openai/GPT-4.1 (https://gateway/v1, 1a)", "no independent evidence", id="through a gateway"),
        pytest.param("offline-evaluator:rm@1 (offline://world, 1a)", "no witness of its own", id="offline"),
        pytest.param("another (https://api.openai.com/v1, 1a)", "", id="another model"),
    ],
)
def test_notes_say_when_the_judge_is_no_independent_witness(judge: str, words: str) -> None:
    notes = judge_notes(pd.DataFrame([{"run_name": "a-run", "judge": judge}]), {"a-run": "gpt-4.1"})
    assert (words in notes[0]) if words else (notes == [])


def test_of_several_evaluations_notes_name_those_whose_judge_ranked() -> None:
    judged = [("a-run", "gpt-4.1 (u, 1)"), ("b-run", "gpt-4.1 (u, 1)"), ("c-run", "offline-evaluator:rm (u, 1)")]
    rows = pd.DataFrame(judged, columns=["run_name", "judge"])
    both = judge_notes(rows[:2], {"a-run": "gpt-4.1", "b-run": "gpt-4.1"})
    assert [note.partition(" ranked")[0] for note in both] == ["gpt-4.1"]
    one, offline = judge_notes(rows, {"a-run": "gpt-4.1"})  # b-run is a baseline: no judge ranked
    assert one.startswith("In the evaluation of a-run: gpt-4.1 ranked during training")
    assert offline.startswith("In the evaluation of c-run: offline-evaluator:rm")
    assert judge_notes(rows[:0], {}) == []


def test_a_wide_table_has_the_papers_columns_and_says_what_all_rows_share() -> None:
    rows = [
        {"run_name": "a-run", "reward_model": "rm", "role": role, "subset": subset, "responses": 2, "mean_reward": 0.5}
        for role in ("after", "before")
        for subset in ("all", "harmless-base")
    ]
    scores = [
        {**row, "subset": "harmless-base", "prompt_id": f"p{number}", "reward": 0.4}
        for row in rows
        for number in (0, 1)
    ]
    shown = pd.DataFrame([{**row, "sigmoid_mean_100": 62.0} for row in rows])
    exhibit = compose("table_1", "Mean reward", {"table_1": shown, "table_1_scores": pd.DataFrame(scores)})
    first = exhibit.tables[0]
    assert first.columns == ("source", "role", "responses", *SUBSETS, "Total")
    assert first.caption == "Mean reward: sigmoid_mean_100; run_name a-run; reward_model rm"
    assert first.rows[0][:3] == ("ours", "after", "2")
    assert first.rows[-1] == ("paper", "CycleAlign PRO, Alpaca", "–", "71.32", "67.89", "66.53", "68.92", "68.97")
    assert "Difference" in exhibit.below[-1].caption


def table_5(response: str = HOSTILE) -> Exhibit:
    return compose(
        "table_5", "Cases", {"table_5": pd.DataFrame([{"chosen": "largest", "response": response, "reward": -1.5}])}
    )


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
    text = markdown(exhibit_blocks(table_5()), {})
    row = next(line for line in text.splitlines() if line.startswith("| largest"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert "<b>" not in row.replace(r"\<b\>", "")
    assert "\x1b" not in text


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_whatever_the_catalogue_names_has_its_sql_file_with_those_columns(name: str) -> None:
    spec = CATALOGUE[name].intervals
    for one in wanted(name):
        assert one.replace("_", "-") in exhibits.known()
        text = queries.load(exhibits.query_of(one))
        for column in spec.by if spec else ():
            assert re.search(rf"\b{column}\b", text), column
    if spec is not None:
        assert re.search(rf"\b{spec.unit}\b", queries.load(exhibits.query_of(spec.rows)))


def test_bars_curves_and_points_are_drawn() -> None:
    curve = pd.DataFrame({"first_step": [0, 4], "last_step": [3, 7], "agreement": [0.5, 0.7]})
    curve = curve.assign(first_round_agreement=[0.5, None], rounds_per_step=1.0)
    points = pd.DataFrame({"subset": ["all"], "role": ["after"], "mean_reward": [0.5], "reward_model": ["rm"]})
    many = pd.DataFrame({"optimizer_step": range(500), "loss": 1.0, "rank_loss": None, "sft_loss": None})
    frames = {"run_agreement": curve, "run_rewards": points, "run_losses": many.assign(gradient_norm=1.0)}
    shown = [table_3(), *(compose(name, "Title", {name: frame}) for name, frame in frames.items())]
    for plot in map(plot_of, shown):
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
