"""The judge audit through the real flow and the command line: paid once, the run unchanged."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from flows.audit import audit
from storage.asking import answer


def test_an_audit_asks_a_share_again_and_a_second_one_nothing(whole: Path) -> None:
    question = "select count(*) from api_attempts"
    rows = audit(run="whole", share=0.5)
    asked = answer(whole, question).iloc[0, 0]
    ranked = answer(whole, "select count(*) from rankings where run_name = 'whole' and ranker = 'black_box'")
    assert rows[-1]["Subset"] == "all"
    assert int(rows[-1]["n"]) + int(rows[-1]["Unread"]) == -(-int(ranked.iloc[0, 0]) // 2)
    assert audit(run="whole", share=0.5) == rows
    assert answer(whole, question).iloc[0, 0] == asked


def test_the_command_line_prints_consistency_position_and_length(whole: Path) -> None:
    result = CliRunner().invoke(main, ["audit", "whole", "--share", "0.25"])
    assert result.exit_code == 0, result.output
    for words in ("Kendall's tau", "First shown best (chance 0.33)", "Longer above shorter"):
        assert words in result.output


@pytest.mark.parametrize("share", ["0", "1.5", "some"])
def test_a_share_that_is_none_is_wrong_use(whole: Path, share: str) -> None:
    assert CliRunner().invoke(main, ["audit", "whole", "--share", share]).exit_code == 2
