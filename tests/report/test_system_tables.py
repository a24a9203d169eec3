"""Tables 1 and 2 from rows of the ledger, and what is said of the judges."""

import math

import pandas as pd
import pytest

from cyclealign.report.judge_notes import judge_notes, judge_notes_of_runs
from cyclealign.report.system_tables import bias_table, difference_table, ordered_roles, pairwise_table, reward_table

THREE = math.log(3)
"""sigmoid(log 3) is 0.75."""


def scores(**rewards: list[float]) -> pd.DataFrame:
    """Rewards per role of prompts p0, p1, …: the first is harmless-base, the others helpful-base."""
    rows = [
        {
            "run_name": "r",
            "reward_model": "rm",
            "role": role,
            "subset": "helpful-base" if place else "harmless-base",
            "prompt_id": f"p{place}",
            "reward": reward,
        }
        for role, listed in rewards.items()
        for place, reward in enumerate(listed)
    ]
    return pd.DataFrame(rows)


def outcomes(*listed: tuple[str, bool]) -> pd.DataFrame:
    rows = [
        {
            "judge": "gpt-x (url, 1)",
            "role": "after",
            "against": "PRO",
            "subset": "helpful-base",
            "prompt_id": f"p{place}",
            "outcome": outcome,
            "inconsistent": inconsistent,
        }
        for place, (outcome, inconsistent) in enumerate(listed)
    ]
    return pd.DataFrame(rows)


def test_table_1_has_a_row_per_system_and_the_papers_columns() -> None:
    table = reward_table(scores(PRO=[0.0, 0.0], after=[0.0, THREE], before=[0.0, 0.0]), "rm")
    assert table.columns == ("System", "n", "harmless-base", "helpful-base", "Total", "Raw mean")
    assert [row[0] for row in table.rows] == ["before", "after", "PRO"]
    after = table.rows[1]
    assert after[1] == "2"
    assert [cell.split(" ")[0] for cell in after[2:5]] == ["50.00", "75.00", "62.50"]
    assert after[4].endswith("(50.00, 75.00)")


def test_differences_are_paired_over_the_prompts_that_both_have() -> None:
    table = difference_table(scores(after=[THREE, THREE], before=[0.0, 0.0], PRO=[0.0]), "rm")
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {"before", "PRO"}
    assert rows["before"][1] == "2"
    assert rows["before"][-1].startswith("+25.00")
    assert rows["PRO"][1] == "1"


def test_table_2_has_shares_of_all_prompts_with_those_that_are_inconsistent_or_missing() -> None:
    table = pairwise_table(
        outcomes(("win", False), ("tie", True), ("lose", False), ("missing", False)), "gpt-x (url, 1)"
    )
    *_, total = table.rows
    assert total[:4] == ("after", "PRO", "all", "4")
    assert [cell.split(" ")[0] for cell in total[4:]] == ["25", "25", "25", "25", "25"]


def test_the_judges_leanings_stand_beside_its_verdicts() -> None:
    shown = {"judge": "j", "role": "after", "against": "PRO", "prompt_id": "p", "first_length": 9, "second_length": 2}
    rows = [{**shown, "verdict": word, "prompt_id": word} for word in ("first", "second", "tie")]
    ((role, against, decided, first, longer),) = bias_table(pd.DataFrame(rows), "j").rows
    assert (role, against, decided, first[:2], longer[:2]) == ("after", "PRO", "2", "50", "50")


def test_the_runs_own_model_comes_first() -> None:
    assert ordered_roles(["PRO", "after", "Alpaca", "before"]) == ["before", "after", "Alpaca", "PRO"]


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        pytest.param("gpt-4.1 (https://api.openai.com/v1, 1a)", "no independent evidence", id="the same model"),
        pytest.param("openai/GPT-4.1 (https://gateway/v1, 1a)", "no independent evidence", id="through a gateway"),
        pytest.param("offline-evaluator:rm@1 (offline://world, 1a)", "no witness of its own", id="offline"),
        pytest.param("another (https://api.openai.com/v1, 1a)", "", id="another model"),
    ],
)
def test_it_is_said_when_the_judge_is_no_independent_witness(judge: str, words: str) -> None:
    notes = judge_notes([judge], "gpt-4.1")
    assert (words in notes[0]) if words else (notes == [])


def test_of_several_evaluations_those_are_named_whose_judge_ranked() -> None:
    judged = [("a-run", "gpt-4.1 (u, 1)"), ("b-run", "gpt-4.1 (u, 1)"), ("c-run", "offline-evaluator:rm (u, 1)")]
    rows = pd.DataFrame(judged, columns=["run_name", "judge"])
    both = judge_notes_of_runs(rows[:2], {"a-run": "gpt-4.1", "b-run": "gpt-4.1"})
    assert [note.partition(" ranked")[0] for note in both] == ["gpt-4.1"]
    one, offline = judge_notes_of_runs(rows, {"a-run": "gpt-4.1"})  # b-run is a baseline: no judge ranked
    assert one.startswith("In the evaluation of a-run: gpt-4.1 ranked during training")
    assert offline.startswith("In the evaluation of c-run: offline-evaluator:rm")
    assert judge_notes_of_runs(rows[:0], {}) == []
