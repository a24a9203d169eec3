"""What a reader must know of the judges before believing a table of comparisons."""

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from cyclealign.settings import EVALUATOR


def judge_notes(judges: Iterable[str], ranked_by: str | None) -> list[str]:
    """One paragraph per reservation about the judges of an evaluation.

    Args:
        judges: Their identities as the ledger has them: the model's name, then endpoint and parameters.
        ranked_by: The model that ranked during training; None where none did.
    """
    return [note for judge in judges for note in _notes(judge, ranked_by)]


def judge_notes_of_runs(judged: pd.DataFrame, rankers: Mapping[str, str]) -> list[str]:
    """The same for the evaluations of several runs; what does not hold for all of them names those it holds for.

    Args:
        judged: Rows with a `run_name` and a `judge`.
        rankers: By run, the model that ranked during its training.
    """
    found: dict[str, list[str]] = {}
    for name, part in judged.groupby("run_name"):
        for note in judge_notes(part["judge"].unique(), rankers.get(str(name))):
            found.setdefault(note, []).append(str(name))
    runs = judged["run_name"].nunique()
    return [
        note if len(names) == runs else f"In the evaluation of {', '.join(names)}: {note}"
        for note, names in found.items()
    ]


def _notes(judge: str, ranked_by: str | None) -> Iterator[str]:
    model = judge.rpartition(" (")[0]
    if ranked_by is not None and same_model(model, ranked_by):
        yield (
            f"{model} ranked during training and judges here as well: this is no independent evidence. Expected "
            "another model under evaluation.judge.endpoint.model."
        )
    if model.startswith(EVALUATOR):
        yield (
            f"{model} is the evaluation's own reward model behind a comparison prompt, with an annotator's luck. It "
            "did not rank during training, and it is no witness of its own beside that reward model's table."
        )


def same_model(one: str, other: str) -> bool:
    """Whether two names mean the same model; a gateway's prefix (`openai/…`) and the case do not matter."""
    return one.rsplit("/", 1)[-1].lower() == other.rsplit("/", 1)[-1].lower()
