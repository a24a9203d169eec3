"""People's verdicts in the ledger: which pairs there are, and what is kept of what was said."""

import pytest

from cyclealign.annotation.pairs import PersonVerdict, ResponsePair
from cyclealign.errors import RunUnknown, UsageError
from storage import evaluations, runs, samples
from storage.comparisons import PersonVerdicts, read_pairs
from storage.evaluations import Generation, RunSystem, System
from storage.ledger import Ledger
from tests.storage.values import new_run, pair

SETTINGS = {"temperature": 0.8}
BOTH = ("before", "after")


@pytest.fixture
def evaluated(ledger: Ledger) -> Ledger:
    """A run with three prompts, to the last of which only the first system responded."""
    prompts = [pair(f"Question {number}", split="test") for number in (2, 0, 1)]
    runs.register(ledger, new_run())
    samples.put(ledger, "s", "evaluation", "d", prompts)
    samples.use(ledger, "a-run", "evaluation", "s")
    for role, shown in (("before", prompts), ("after", prompts[:2]), ("PRO", [])):
        system = System(role, {"model": role})
        ledger.record(system)
        digest = evaluations.generation_digest(SETTINGS)
        evaluations.put_run_system(ledger, RunSystem("a-run", role, system.system_id, digest))
        made = [generation(system, one.prompt.prompt_id) for one in shown]
        ledger.record(*made)
    return ledger


def generation(system: System, prompt_id: str) -> Generation:
    return Generation(system.system_id, prompt_id, SETTINGS, f"by {system.label}", 3, True, 0.0, 0.5)


def verdict(of: ResponsePair, said: str, annotator: str = "Ann") -> PersonVerdict:
    first, second = of.responses
    return PersonVerdict(annotator, first.generation_id, second.generation_id, said)  # type: ignore[arg-type]


def test_the_pairs_are_the_prompts_that_both_responded_to_in_the_samples_order(evaluated: Ledger) -> None:
    found = read_pairs(evaluated, "a-run", BOTH)
    assert [one.turns[0].text for one in found] == ["Question 2", "Question 0"]
    assert {response.text for response in found[0].responses} == {"by before", "by after"}


def test_an_unknown_run_or_system_names_the_known_ones(evaluated: Ledger) -> None:
    with pytest.raises(RunUnknown, match="a-run"):
        read_pairs(evaluated, "b-run", BOTH)
    with pytest.raises(UsageError, match=r"Found DPO.*PRO, after, before"):
        read_pairs(evaluated, "a-run", ("before", "DPO"))
    with pytest.raises(UsageError, match="after twice"):
        read_pairs(evaluated, "a-run", ("after", "after"))


def test_nothing_to_compare_says_what_would_make_something(evaluated: Ledger) -> None:
    with pytest.raises(UsageError, match="cyclealign evaluate a-run"):
        read_pairs(evaluated, "a-run", ("before", "PRO"))


def test_a_verdict_is_kept_per_person_and_pair_and_a_later_one_replaces_it(evaluated: Ledger) -> None:
    one, other = read_pairs(evaluated, "a-run", BOTH)
    store = PersonVerdicts(evaluated, [one, other])
    said = [verdict(one, "first"), verdict(other, "tie"), verdict(one, "second", "Ben"), verdict(one, "second")]
    for each in said:
        store.put(each)
    assert store.verdicts() == said[1:]


def test_a_verdict_taken_back_is_gone(evaluated: Ledger) -> None:
    one, other = read_pairs(evaluated, "a-run", BOTH)
    store = PersonVerdicts(evaluated, [one, other])
    store.put(verdict(one, "first"))
    store.put(verdict(one, "first", "Ben"))
    store.remove(verdict(one, "tie"))
    store.remove(verdict(other, "tie"))
    assert store.verdicts() == [verdict(one, "first", "Ben")]


def test_verdicts_on_other_pairs_are_none_of_this_store(evaluated: Ledger) -> None:
    one, other = read_pairs(evaluated, "a-run", BOTH)
    PersonVerdicts(evaluated, [one, other]).put(verdict(one, "first"))
    assert PersonVerdicts(evaluated, [other]).verdicts() == []
