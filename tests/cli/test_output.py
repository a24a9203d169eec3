"""Rows that are printed: whatever a cell holds, a terminal shows it and acts upon none of it."""

import csv
import io
import json
import re
from contextlib import redirect_stdout

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.output import print_frame, print_rows

HOSTILE = (
    "[red]alarm[/blue] [link=http://evil.example]press[/link] [/] \x1b[2J\x1b]8;;http://evil.example\x07\x9b31m"
    "\rover\x08\x7f\n| cell | \u202egnp.exe\u2028\u200b"
)


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(frame: pd.DataFrame, style: str) -> str:
    """What a terminal gets."""
    with redirect_stdout(Terminal()) as terminal:
        print_frame(frame, style)
    return terminal.getvalue()


@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_a_terminal_gets_nothing_to_act_upon(style: str) -> None:
    shown = on_a_terminal(pd.DataFrame({HOSTILE: [HOSTILE, None]}), style)
    own_colours_gone = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert not set("\x1b\x07\x08\x7f\x9b\r\u202e\u2028\u200b") & set(own_colours_gone)
    if style == "table":  # brackets are no markup
        words = re.sub(r"[\s│┃]+", "", own_colours_gone)
        assert "[red]alarm[/blue][link=http://evil.example]press[/link]" in words


@settings(max_examples=50)
@given(st.text(), st.text())
def test_any_row_can_be_printed(name: str, value: str) -> None:
    assert on_a_terminal(pd.DataFrame({name: [value]}), "table")


def test_programs_get_csv_and_json_unchanged_and_the_number_of_rows_beside_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = pd.DataFrame({"text": [HOSTILE]})
    print_frame(frame, "json")
    assert json.loads(capsys.readouterr().out) == [{"text": HOSTILE}]
    print_frame(frame, "csv")
    assert list(csv.reader(io.StringIO(capsys.readouterr().out, newline=""))) == [["text"], [HOSTILE]]
    print_rows([{"a": 1}, {"a": 2}])
    assert capsys.readouterr().err == "2 rows\n"
