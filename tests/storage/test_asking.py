"""A user's question: SQL of their own, or a shipped query by name."""

import pytest

from cyclealign.errors import UsageError
from storage import queries, runs
from storage.asking import answer
from storage.ledger import Ledger
from tests.storage.values import new_run, ranked, sampled


def test_own_sql_is_answered(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    frame = answer(ledger.home, "select run_name from runs where run_name = 'a-run'")
    assert frame.to_dict("records") == [{"run_name": "a-run"}]


def test_a_shipped_query_takes_parameters_and_leaves_out_others(ledger: Ledger) -> None:
    for name in ("a-run", "another"):
        ledger.record(sampled(0, run_name=name), ranked(0, run_name=name))
    assert len(answer(ledger.home, "rankings_side_by_side")) == 2
    frame = answer(ledger.home, "rankings_side_by_side run_name=a-run step=0")
    assert frame["run_name"].tolist() == ["a-run"]
    assert frame["agreement"].tolist()[0].tolist() == [0, 2]


def test_a_misspelt_query_is_told_its_name(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=r"Did you mean the shipped query agreement_over_steps\?"):
        answer(ledger.home, "agreement_over_step run_name=a-run")


def test_the_shipped_queries_are_listed_with_what_they_are_about(ledger: Ledger) -> None:
    frame = answer(ledger.home, "queries")
    assert frame["query"].tolist() == queries.for_users()
    assert all("One row per" in about for about in frame["about"])


@pytest.mark.parametrize("question", ["prompt_history prompt=1", "prompt_history run_name"])
def test_a_parameter_that_a_query_does_not_know_is_refused_with_those_it_knows(ledger: Ledger, question: str) -> None:
    with pytest.raises(UsageError, match=r"Expected name=value with the names prompt_id, run_name"):
        answer(ledger.home, question)


def test_a_statement_with_a_quote_that_never_ends_is_a_wrong_statement(ledger: Ledger) -> None:
    runs.register(ledger, new_run())
    with pytest.raises(UsageError, match="unterminated"):
        answer(ledger.home, "select 'abc")
