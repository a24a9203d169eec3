"""Every benchmark can be imported, and those that are quick measure at a tiny size and keep their own claims."""

import importlib
import pkgutil

import pytest

import benchmarks
from benchmarks import faults, fuzz_answers, made_up, measuring, published_steps

TINY = dict(made_up.SMALL, vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2)


@pytest.mark.parametrize("name", [one.name for one in pkgutil.iter_modules(benchmarks.__path__)])
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def test_published_steps_and_ours_compute_the_same_and_are_timed() -> None:
    rows = published_steps.rows(repeats=1, shape=TINY)
    assert [len(row.values) for row in rows] == [1, 1, 1]


def test_a_few_questions_to_a_faulty_server_keep_every_claim() -> None:
    assert [faults.broken_claims(counts) for counts in faults.own_server(24, seed=0)] == [[], []]


def test_damaged_answers_are_read_without_a_crash() -> None:
    texts = fuzz_answers.from_damage(100, 0, fuzz_answers.GOOD)
    assert fuzz_answers.tally("damaged", texts, fuzz_answers.answer_outcome)["wrong"] == []


def test_a_row_misses_its_bar_by_the_median_and_only_when_measured() -> None:
    row = measuring.Row("a claim", (1.0, 1.2, 5.0), at_most=1.1)
    assert (row.missed, row.record()["ratio"]) == (True, 1.2)
    assert not measuring.Row("a claim", at_most=1.1).missed
