"""Samples: which prompts a run trains on or is evaluated on, in which order.

Leaves out: drawing them from a prepared data set (`storage.sampling`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cyclealign.errors import DataError
from cyclealign.records import PreferencePair, Prompt, Turn
from cyclealign.seeds import derive_seed
from storage.facts import fact
from storage.ledger import Ledger

Purpose = Literal["training", "evaluation"]
PURPOSES: tuple[Purpose, ...] = ("training", "evaluation")


@fact("drawn_samples")
@dataclass(frozen=True, slots=True)
class Sample:
    """A sample: which prompts, in order."""

    sample_digest: str
    purpose: Purpose
    dataset_digest: str
    prompt_ids: tuple[str, ...]


@fact("prompts")
@dataclass(frozen=True, slots=True)
class KeptPrompt:
    """A prompt that any sample uses, with the data set's own replies."""

    prompt_id: str
    subset: str
    split: str
    turns: tuple[Turn, ...]
    instruction: str
    chosen: str
    rejected: str


@fact("sample_uses")
@dataclass(frozen=True, slots=True)
class SampleUse:
    """A run takes up a sample."""

    run_name: str
    purpose: Purpose
    sample_digest: str


def put(
    ledger: Ledger, sample_digest: str, purpose: Purpose, dataset_digest: str, pairs: Sequence[PreferencePair]
) -> None:
    """Keep the prompts of a sample in order; putting a sample twice changes nothing."""
    sample = Sample(sample_digest, purpose, dataset_digest, tuple(pair.prompt.prompt_id for pair in pairs))
    ledger.record(*(_kept(pair) for pair in pairs), sample)


def exists(ledger: Ledger, sample_digest: str) -> bool:
    """Whether this sample was drawn before."""
    with ledger.session() as session:
        return bool(session.rows("with_ids", this_table="drawn_samples", this_id="sample_digest", ids=[sample_digest]))


def read(ledger: Ledger, sample_digest: str) -> list[Prompt]:
    """The prompts of a sample, in order.

    Raises:
        DataError: there is no such sample.
    """
    return [pair.prompt for pair in read_pairs(ledger, sample_digest)]


def read_pairs(ledger: Ledger, sample_digest: str) -> list[PreferencePair]:
    """The prompts of a sample with the data set's own replies, in order.

    Raises:
        DataError: there is no such sample.
    """
    with ledger.session() as session:
        rows = session.rows("samples/read", sample_digest=sample_digest)
    if not rows:
        raise DataError(
            f"No sample {sample_digest!r} in the ledger. Expected one that was drawn; prepare the data again."
        )
    return [pair_of(row) for row in rows]


def reordered(ledger: Ledger, sample_digest: str, dataset_digest: str, seed: int) -> str:
    """A training sample of the same prompts in the order of another seed; returns its digest."""
    text = json.dumps([sample_digest, "reordered", seed])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    if not exists(ledger, digest):
        pairs = read_pairs(ledger, sample_digest)
        pairs.sort(key=lambda pair: derive_seed(seed, "order", pair.prompt.prompt_id))
        put(ledger, digest, "training", dataset_digest, pairs)
    return digest


def use(ledger: Ledger, run_name: str, purpose: Purpose, sample_digest: str) -> None:
    """Note which sample a run uses for a purpose."""
    if of_run(ledger, run_name, purpose) != sample_digest:
        ledger.record(SampleUse(run_name, purpose, sample_digest))


def of_run(ledger: Ledger, run_name: str, purpose: Purpose) -> str | None:
    """The digest of the sample that a run uses for a purpose; None before it was drawn."""
    with ledger.session() as session:
        rows = session.rows("of_run", this_table="run_samples", run_name=run_name)
    return next((row["sample_digest"] for row in rows if row["purpose"] == purpose), None)


def pair_of(row: dict[str, Any]) -> PreferencePair:
    """The preference pair in a row with the columns of `prompts`."""
    turns = tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"])
    prompt = Prompt(row["prompt_id"], row["subset"], row["split"], turns)
    return PreferencePair(prompt, row["chosen"], row["rejected"])


def _kept(pair: PreferencePair) -> KeptPrompt:
    one = pair.prompt
    return KeptPrompt(one.prompt_id, one.subset, one.split, one.turns, one.instruction, pair.chosen, pair.rejected)
