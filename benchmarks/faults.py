"""A thousand questions to servers that fail half of the time: `make faults` or `python -m benchmarks.faults`.

Claim: at concurrency 16 every question is answered with the ranking that the server gave, or recorded with the reason
why not; no request is sent without its worst case being recorded before, and what is spent or reserved is never above
the cap. Two servers on loopback: our own, whose faults are drawn from a list (`tests.models.black_box.fault_server`),
under a cap that is reached halfway and then raised; and aimock from npm, with its own faults. Money is play money.

Prints the counts, writes `faults.json`; exit code 1 when a claim does not hold. Without npm the second part is not run
and the output says so.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import aimock
from benchmarks.fault_counts import Part, account
from benchmarks.faulty_questions import CANDIDATES, MARKS, PRICE, Outcome, ask_all, questions, rankings
from benchmarks.results import provenance
from storage.ledger import Ledger
from tests.models.black_box.fault_server import USAGE, FaultServer, answer
from tests.serving import serving

PATH = Path(__file__).parent / "faults.json"
FAILS = ("rate limit", "rate limit, retry-after", "rate limit, retry-after-ms", "500", "502", "503", "reset", "hang")
BREAKS = ("truncated body", "empty body", "no choices", "error with status 200", "broken json")
MISLEADS = ("wrong permutation", "duplicate ids", "missing ids", "prose", "null content", "refusal", "length")
FAULTS = (*FAILS, *BREAKS, *MISLEADS, "filtered answer", "slow first byte", "bad request", "filtered prompt")
CHARGED = {*MISLEADS, "filtered answer", "slow first byte", "good"}
"""What a provider would send a bill for."""
COST_USD = (USAGE["prompt_tokens"] * PRICE.input + USAGE["completion_tokens"] * PRICE.output) / 1e6
LOW_CAP_USD, CAP_USD = 0.5, 50.0
CHAOS = {"drop": 0.17, "malformed": 0.15 / 0.83, "ratelimit": 0.03 / 0.68, "disconnect": 0.15 / 0.65}
"""Of all requests 17, 15, 3 and 15%: each rate is of what the ones before it leave. A 429 holds everybody for 1 s."""


def own_server(count: int, seed: int) -> Part:
    """Our own server, first under a cap that does not suffice."""
    server = FaultServer(plan=lambda number, _body: behaviour(seed, number))
    with serving(server), tempfile.TemporaryDirectory() as home:
        ledger, asked = Ledger(Path(home)), questions(count)
        first = ask_all(ledger, server.url, asked, LOW_CAP_USD)
        low = account("our own server, a cap that does not suffice", ledger, asked, first, LOW_CAP_USD)
        asking = ask_all(ledger, server.url, asked, CAP_USD)
        part = account("our own server", ledger, asked, asking, CAP_USD)
        ledger.close()
    part.before_the_cap_was_raised = low
    part.wrong += low.wrong + best_first(asking.outcomes)
    return arrived(part, Counter(server.behaviours), sum(one in CHARGED for one in server.behaviours))


def behaviour(seed: int, number: int) -> str:
    """What the server does with its request of this number: a fault in half of the cases."""
    draw = random.Random(f"{seed}/{number}")
    return draw.choice(FAULTS) if draw.random() < 0.5 else "good"


def best_first(outcomes: Sequence[Outcome]) -> int:
    """How many rankings are not the server's, which is alphabetical."""
    alphabetical = tuple(sorted(range(len(CANDIDATES)), key=lambda place: CANDIDATES[place]))
    return sum(ranking != alphabetical for ranking, _ in rankings(outcomes))


def other_server(count: int) -> Part:
    """aimock; it finds all answers best in the order shown.

    Raises:
        AimockMissing: it cannot be run here.
    """
    with aimock.serving(fixtures(), CHAOS) as server, tempfile.TemporaryDirectory() as home:
        ledger, asked = Ledger(Path(home)), questions(count)
        asking = ask_all(ledger, server.url, asked, CAP_USD)
        part = account(aimock.PACKAGE, ledger, asked, asking, CAP_USD)
        journal = [entry["response"] for entry in server.journal()]
        ledger.close()
    part.wrong += sum(ranking != shown for ranking, shown in rankings(asking.outcomes))
    kinds = Counter(one.get("chaosAction") or f"status {one['status']}" for one in journal)
    return arrived(part, kinds, kinds["status 200"])


def fixtures() -> list[dict[str, Any]]:
    """What aimock answers where no chaos strikes: by the question's mark, or a good answer."""
    shown = list(range(len(CANDIDATES)))
    by_mark: dict[str, dict[str, Any]] = {
        "prose": {"content": "The first one is the best."},
        "duplicates": {"content": answer([0] * len(shown))},
        "cut": {"content": answer(shown), "finishReason": "length"},
        "filtered": {"content": "", "finishReason": "content_filter"},
        "breaks": {"error": {"message": "internal", "type": "server_error"}, "status": 500},
        "unacceptable": {"error": {"message": "too long", "type": "invalid_request_error"}, "status": 400},
    }
    assert by_mark.keys() == set(MARKS)
    usage = {**USAGE, "total_tokens": sum(USAGE.values())}
    answers = [{"match": {"userMessage": f"[{mark}]"}, "response": by_mark[mark]} for mark in MARKS]
    answers.append({"match": {}, "response": {"content": answer(shown)}})
    for one in answers:
        one["response"] |= {} if "error" in one["response"] else {"usage": usage}
    return answers


def arrived(part: Part, kinds: Counter[str], charged: int) -> Part:
    """The part with what the server has seen."""
    part.requests, part.at_the_server = kinds.total(), kinds
    part.charged_usd = charged * COST_USD
    return part


@click.command()
@click.option("--questions", "count", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of our own server's faults.")
def main(count: int, seed: int) -> None:
    """Ask so many questions of each server and compare what it has seen with the ledger."""
    parts, missing = [own_server(count, seed)], None
    try:
        parts.append(other_server(count))
    except aimock.AimockMissing as error:
        missing = str(error)
    for part in parts:
        click.echo(part.as_text())
    if missing:
        click.echo(f"NOT RUN: {aimock.PACKAGE}: {missing}")
    record = {"seed": seed, "parts": [part.as_dict() for part in parts], "not_run": missing, **provenance()}
    PATH.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    sys.exit(int(any(part.broken_claims() for part in parts)))


if __name__ == "__main__":
    main()
