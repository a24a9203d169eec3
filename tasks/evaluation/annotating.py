"""Puts the annotation page of a run together: its pairs, the ledger as the store, the checks at the entrance."""

from starlette.types import ASGIApp

from cyclealign.annotation.entrance import guarded
from cyclealign.annotation.page import annotation_app
from cyclealign.annotation.pairs import PairQueue, clean_name
from cyclealign.errors import UsageError
from storage.comparisons import PersonVerdicts, read_pairs
from storage.ledger import Ledger
from tasks.context import home_folder


def annotation_page(run_name: str, systems: str, annotator: str | None, token: str | None) -> ASGIApp:
    """The page on which people compare two systems of a run's evaluation.

    Args:
        run_name: The run.
        systems: Their roles or labels, with a comma between them.
        annotator: The only one who judges; None: whoever comes gives a name.
        token: What opens the page from elsewhere; None: this machine alone.

    Raises:
        RunUnknown: the ledger has no run of this name.
        UsageError: there is nothing to compare, or the name cannot be an annotator's.
    """
    named = None if annotator is None else clean_name(annotator)
    ledger = Ledger(home_folder())
    pairs = read_pairs(ledger, run_name, _two(systems))
    return guarded(annotation_app(PairQueue(pairs, PersonVerdicts(ledger, pairs)), named), token)


def _two(systems: str) -> tuple[str, str]:
    roles = [role.strip() for role in systems.split(",")]
    if len(roles) != 2:
        raise UsageError(f"Found --systems {systems!r}, expected two with a comma between them: before,after.")
    return roles[0], roles[1]
