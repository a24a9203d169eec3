"""Samples keep prompts in order."""

import pytest

from cyclealign.errors import DataError
from storage import samples
from storage.ledger import Ledger
from storage.samples import NewSample
from tests.storage.values import pair


def test_a_sample_comes_back_in_its_order(ledger: Ledger) -> None:
    pairs = (pair("zebra"), pair("ape"), pair("lion", subset="helpful-base"))
    samples.put(ledger, NewSample("s", "training", "d", pairs))
    samples.put(ledger, NewSample("s", "training", "d", pairs))
    assert samples.read_pairs(ledger, "s") == list(pairs)
    assert samples.read(ledger, "s") == [one.prompt for one in pairs]
    assert samples.exists(ledger, "s")


def test_two_samples_may_share_prompts(ledger: Ledger) -> None:
    samples.put(ledger, NewSample("s", "training", "d", (pair("a"), pair("b"))))
    samples.put(ledger, NewSample("t", "training", "d", (pair("b"), pair("c"))))
    assert samples.read_pairs(ledger, "t") == [pair("b"), pair("c")]


def test_a_sample_that_was_never_drawn_is_an_error(ledger: Ledger) -> None:
    assert not samples.exists(ledger, "s")
    with pytest.raises(DataError, match="No sample 's'"):
        samples.read(ledger, "s")


def test_a_run_knows_its_samples(ledger: Ledger) -> None:
    assert samples.of_run(ledger, "a-run", "training") is None
    samples.use(ledger, "a-run", "training", "s")
    samples.use(ledger, "a-run", "training", "t")
    assert samples.of_run(ledger, "a-run", "training") == "t"
    assert samples.of_run(ledger, "a-run", "evaluation") is None
