"""Samples: which prompts a run trains on or is evaluated on, in which order.

Leaves out: drawing them from a prepared data set (`storage.sampling`).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from cyclealign.errors import DataError
from cyclealign.records import PreferencePair, Prompt, Turn
from cyclealign.seeds import derive_seed
from storage.ledger import Ledger

Purpose = Literal["training", "evaluation"]
PURPOSES: tuple[Purpose, ...] = ("training", "evaluation")


@dataclass(frozen=True, slots=True)
class NewSample:
    """A sample's identity and its pairs, in order."""

    sample_digest: str
    purpose: Purpose
    dataset_digest: str
    pairs: tuple[PreferencePair, ...]


def put(ledger: Ledger, sample: NewSample) -> None:
    """Keep the prompts of a sample in order; putting a sample twice changes nothing."""
    prompt_ids = [pair.prompt.prompt_id for pair in sample.pairs]
    with ledger.session() as session, session.transaction():
        session.run("samples/put_prompts", rows=[_prompt_row(pair) for pair in sample.pairs])
        session.run(
            "samples/put",
            sample_digest=sample.sample_digest,
            purpose=sample.purpose,
            dataset_digest=sample.dataset_digest,
            prompt_ids=prompt_ids,
        )


def exists(ledger: Ledger, sample_digest: str) -> bool:
    """Whether this sample was drawn before."""
    with ledger.session() as session:
        return bool(session.value("samples/exists", sample_digest=sample_digest))


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
        put(ledger, NewSample(digest, "training", dataset_digest, tuple(pairs)))
    return digest


def use(ledger: Ledger, run_name: str, purpose: Purpose, sample_digest: str) -> None:
    """Note which sample a run uses for a purpose."""
    with ledger.session() as session:
        session.run("samples/use", run_name=run_name, purpose=purpose, sample_digest=sample_digest)


def of_run(ledger: Ledger, run_name: str, purpose: Purpose) -> str | None:
    """The digest of the sample that a run uses for a purpose; None before it was drawn."""
    with ledger.session() as session:
        found: str | None = session.value("samples/of_run", run_name=run_name, purpose=purpose)
    return found


def pair_of(row: dict[str, Any]) -> PreferencePair:
    """The preference pair in a row with the columns of `prompts`."""
    turns = tuple(Turn(turn["speaker"], turn["text"]) for turn in row["turns"])
    prompt = Prompt(row["prompt_id"], row["subset"], row["split"], turns)
    return PreferencePair(prompt, row["chosen"], row["rejected"])


def _prompt_row(pair: PreferencePair) -> dict[str, Any]:
    prompt = pair.prompt
    return {
        "prompt_id": prompt.prompt_id,
        "subset": prompt.subset,
        "split": prompt.split,
        "turns": [{"speaker": turn.speaker, "text": turn.text} for turn in prompt.turns],
        "instruction": prompt.instruction,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }
