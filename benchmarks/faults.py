"""A thousand questions to servers that fail half of the time: `make faults` or `python -m benchmarks.faults`.

Claim: at concurrency 16 every question is answered with the ranking that the server gave, or recorded with the reason
why not; no request is sent without its worst case being recorded before, and what is spent or reserved is never above
the cap. Two servers on loopback: our own, whose faults are drawn from a list (`tests.black_box.model_server`),
under a cap that is reached halfway and then raised; and aimock from npm, with its own faults. Money is play money.

Prints the counts, writes `faults.json`; exit code 1 when a claim does not hold. Without npm the second part is not run
and the output says so.
"""

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import click

from benchmarks.measuring import provenance
from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.errors import BudgetReached, RunPaused
from cyclealign.method.answers import Answer
from cyclealign.profiles import resolve
from cyclealign.records import Prompt, Response, Turn
from cyclealign.settings import BlackBoxSettings, PriceSettings
from storage.ledger import Ledger
from storage.rounds import SampledRound
from tasks.asking.pace import Backoff
from tasks.asking.protocol import Account, Direct
from tasks.asking.questions import Asker, Result
from tasks.cycle.ranking import ranking_question, shown_order
from tests.black_box.model_server import USAGE, ModelServer, answer
from tests.serving import serving

PATH = Path(__file__).parent / "faults.json"
RUN = "faults"
CONCURRENCY = 16
CANDIDATES = ("cherry", "apple", "banana")
ALPHABETICAL = (1, 2, 0)
MARKS = ("prose", "duplicates", "cut", "filtered", "breaks", "unacceptable")
"""Words in brackets by which a server may know questions that it never answers well."""
FAILS = ("rate limit", "rate limit, retry-after", "rate limit, retry-after-ms", "500", "502", "503", "reset", "hang")
BREAKS = ("truncated body", "empty body", "no choices", "error with status 200", "broken json")
INSIDE = ("rate limit with status 200", "other model", "too long")
MISLEADS = ("wrong permutation", "duplicate ids", "missing ids", "prose", "null content", "refusal", "length")
FAULTS = (*FAILS, *BREAKS, *INSIDE, *MISLEADS, "filtered answer", "slow first byte", "bad request", "filtered prompt")
CHARGED = {*MISLEADS, "filtered answer", "slow first byte", "other model", "good"}
"""Behaviours for which a provider would send a bill."""
PRICE = PriceSettings(input=1.0, output=2.0)
"""US dollars per million tokens."""
COST_USD = (USAGE["prompt_tokens"] * PRICE.input + USAGE["completion_tokens"] * PRICE.output) / 1e6
LOW_CAP_USD, CAP_USD = 0.5, 50.0
CHAOS = {"drop": 0.17, "malformed": 0.15 / 0.83, "ratelimit": 0.03 / 0.68, "disconnect": 0.15 / 0.65}
"""Of all requests 17, 15, 3 and 15%: each rate is of what the ones before it leave. A 429 holds everybody for 1 s."""
ATTEMPTS = """
    select
        call_key, state, failure, epoch_us(started_at) as started_at, epoch_us(ended_at) as ended_at,
        reserved_usd::double as reserve, coalesce(cost_usd, reserved_usd)::double as cost
    from api_attempts
    where run_name = $run
    """
SETTINGS = resolve(RUN, {"data": {"source": "folder"}, "white_box": {"model": "m"}, "black_box": {"model": "m"}}, {})
AIMOCK = "@copilotkit/aimock@1.43.0"
SCRIPT = "node_modules/@copilotkit/aimock/dist/cli.js"
STARTUP_S = 30.0
Ended = Result[Answer] | RunPaused
Counts = dict[str, Any]
"""What asking all questions of a server came to, see `account`."""


def own_server(count: int, seed: int) -> list[Counts]:
    """Our own server, under a cap that does not suffice, and then under one that does."""
    server = ModelServer(plan=lambda number, _body: behaviour(seed, number))
    with serving(server), tempfile.TemporaryDirectory() as home:
        ledger = Ledger(Path(home))
        found = [
            account(f"our own server, a cap of ${cap:.2f}", ledger, cap, *ask_all(ledger, server.url, count, cap))
            for cap in (LOW_CAP_USD, CAP_USD)
        ]
        ledger.close()
    for counts in found:
        counts["wrong"] = sum(ranking != ALPHABETICAL for ranking, _ in counts.pop("rankings"))
    charged = sum(one in CHARGED for one in server.behaviours)
    found[-1] |= {"at_the_server": Counter(server.behaviours), "charged_usd": charged * COST_USD}
    return found


def behaviour(seed: int, number: int) -> str:
    """What the server does with its request of this number: a fault in half of the cases."""
    draw = random.Random(f"{seed}/{number}")
    return draw.choice(FAULTS) if draw.random() < 0.5 else "good"


def other_server(count: int) -> list[Counts]:
    """aimock; it finds all answers best in the order shown."""
    with aimock(fixtures(), CHAOS) as server, tempfile.TemporaryDirectory() as home:
        ledger = Ledger(Path(home))
        counts = account(AIMOCK, ledger, CAP_USD, *ask_all(ledger, server.url, count, CAP_USD))
        journal = [entry["response"] for entry in server.journal()]
        ledger.close()
    kinds = Counter(one.get("chaosAction") or f"status {one['status']}" for one in journal)
    counts["wrong"] = sum(ranking != shown for ranking, shown in counts.pop("rankings"))
    return [counts | {"at_the_server": kinds, "charged_usd": kinds["status 200"] * COST_USD}]


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
    usage = {**USAGE, "total_tokens": sum(USAGE.values())}
    answers = [{"match": {"userMessage": f"[{mark}]"}, "response": by_mark[mark]} for mark in MARKS]
    answers.append({"match": {}, "response": {"content": answer(shown)}})
    for one in answers:
        one["response"] |= {} if "error" in one["response"] else {"usage": usage}
    return answers


def sampled(step: int) -> SampledRound:
    """The round of a question."""
    return SampledRound(
        "faults", step, 1, step, "", tuple(Response(text, (), True) for text in CANDIDATES), (), (), 0.0, 0.0
    )


def ask_all(ledger: Ledger, url: str, count: int, cap_usd: float) -> tuple[list[Ended], float]:
    """The outcomes of so many questions, asked at the same time over the path of the training loop, and the seconds.

    Every eighth question carries a mark, one after the other. Where the cap or a refusal
    stopped a question, the outcome is that.
    """
    black_box = BlackBoxSettings(
        base_url=url, model="some-model", concurrency=CONCURRENCY, timeout_s=3.0, budget_usd=cap_usd, price=PRICE
    )
    settings = SETTINGS.model_copy(update={"black_box": black_box})
    marks = {8 * place: f" [{mark}]" for place, mark in enumerate(MARKS)}  # many in a row would be a misfit
    texts = [f"Which fruit is best in month {step}?{marks.get(step % 48, '')}" for step in range(count)]
    prompts = [Prompt.from_turns("helpful-base", "train", [Turn("human", text)]) for text in texts]
    way = Direct(Account(ledger, RUN, black_box, lambda: ChatEndpoint(black_box)), Backoff(first_s=0.02, most_s=0.5))
    results: list[Ended] = []
    started = time.monotonic()
    with Asker(way) as asker:
        asked = [ranking_question(settings, sampled(step), prompt, ()) for step, prompt in enumerate(prompts)]
        for future in [asker.submit([question]) for question in asked]:
            try:
                results += future.result()
            except RunPaused as pause:
                results.append(pause)
    return results, time.monotonic() - started


def account(server: str, ledger: Ledger, cap_usd: float, results: Sequence[Ended], seconds: float) -> Counts:
    """The counts by the ledger and the outcomes; `rankings` are those given, beside the order that was shown."""
    done = [(step, one) for step, one in enumerate(results) if isinstance(one, Result)]
    rows: list[dict[str, Any]] = ledger.query(ATTEMPTS, {"run": RUN}).to_dict("records")  # type: ignore[assignment]
    bought = Counter(row["call_key"] for row in rows if row["state"] == "answered")
    shown = [(one.answer, shown_order(SETTINGS, sampled(step), one.asks - 1)) for step, one in done]
    return {
        "server": server,
        "questions": len(results),
        "answered": sum(one.answer is not None for _, one in done),
        "recorded": Counter(one.reason for _, one in done if one.reason),  # without an answer, by reason
        "stopped": Counter(type(one).__name__ for one in results if not isinstance(one, Result)),
        "attempts": len(rows),
        "failures": Counter(row["failure"] for row in rows if row["state"] == "failed"),
        "open_attempts": sum(row["state"] == "in_flight" for row in rows),
        "bought_twice": sum(count > 1 for count in bought.values()),
        "most_at_once": int(highest([(row, 1, -1) for row in rows])),
        "spend_usd": sum(row["cost"] for row in rows),
        # the highest sum, at any moment, of what was spent and what was reserved for attempts under way
        "most_committed_usd": highest([(row, row["reserve"], row["cost"] - row["reserve"]) for row in rows]),
        "cap_usd": cap_usd,
        "seconds": round(seconds, 1),
        "rankings": [(given.ranking, order) for given, order in shown if given],
        "at_the_server": Counter(),
        "charged_usd": 0.0,  # by the server's count
    }


def highest(changes: Sequence[tuple[dict[str, Any], float, float]]) -> float:
    """The highest level of something that each attempt changes at its start and again at its end.

    At the same moment ends count first: the ledger's transactions come one after the other.
    """
    moments = [(row["ended_at"], 0, end) for row, _, end in changes]
    moments += [(row["started_at"], 1, start) for row, start, _ in changes]
    level = most = 0.0
    for _, _, change in sorted(moments, key=lambda moment: moment[:2]):
        level += change
        most = max(most, level)
    return most


def broken_claims(counts: Counts) -> list[str]:
    """The claims that do not hold."""
    reached = counts["stopped"][BudgetReached.__name__]  # only the cap may stop one, where it does not suffice
    complete = counts["answered"] + counts["recorded"].total() + reached == counts["questions"]
    claims = {
        "every question is answered or recorded": complete,
        "no ranking but the server's": counts["wrong"] == 0,
        "no attempt is left open": counts["open_attempts"] == 0,
        "no answer is bought twice": counts["bought_twice"] == 0,
        "no request without its attempt": counts["at_the_server"].total() <= counts["attempts"],
        "at most 16 at once": counts["most_at_once"] <= CONCURRENCY,
        "the cap is never exceeded": counts["most_committed_usd"] <= counts["cap_usd"],
        "spend covers the server's bill": counts["charged_usd"] <= counts["spend_usd"] + 1e-9,
    }
    return [claim for claim, holds in claims.items() if not holds]


def as_text(counts: Counts) -> str:
    """The counts, for people."""

    def shown(value: object) -> str:
        if isinstance(value, Counter):
            return ", ".join(f"{name} {count:,}" for name, count in value.most_common()) or "none"
        return f"{value:,.4f}" if isinstance(value, float) else str(value)

    lines = [f"  {key.replace('_', ' ')}: {shown(value)}" for key, value in counts.items()]
    return "\n".join([*lines, *(f"  BROKEN: {claim}" for claim in broken_claims(counts)), ""])


class AimockMissing(Exception):
    """aimock cannot be run here; the message says why and what to do."""


@dataclass(frozen=True)
class Aimock:
    """A running server."""

    root: str

    @property
    def url(self) -> str:
        """The base URL for a chat-completions client."""
        return f"{self.root}/v1"

    def journal(self) -> list[dict[str, Any]]:
        """Every chat completion that arrived, in order; `response` holds its status and, if any, its chaos."""
        with urlopen(f"{self.root}/__aimock/journal?path=/chat/completions") as answer:  # noqa: S310  loopback
            entries: list[dict[str, Any]] = json.load(answer)
        return entries


@contextmanager
def aimock(fixtures: Sequence[Mapping[str, Any]], chaos: Mapping[str, float]) -> Iterator[Aimock]:
    """Install and run the server for the block.

    Args:
        fixtures: What it answers, first match first.
        chaos: Rates by the name of the command's option, for example `drop`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        install(folder)
        (folder / "fixtures.json").write_text(json.dumps({"fixtures": list(fixtures)}))
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        rates = [word for name, rate in chaos.items() for word in (f"--chaos-{name}", f"{rate:.4f}")]
        options = ["--port", str(port), "--fixtures", str(folder / "fixtures.json"), "--journal-max", "0", *rates]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(["node", SCRIPT, *options], cwd=folder, stdout=log, stderr=log)
        try:
            yield wait_for(process, Aimock(f"http://127.0.0.1:{port}"), folder / "log")
        finally:
            process.terminate()
            process.wait()


def install(folder: Path) -> None:
    """Put the package into a folder."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise AimockMissing("npm was not found. Install Node.js 20 or newer, which brings it.")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    command = ["npm", "install", "--prefix", str(folder), *options, AIMOCK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AimockMissing(f"npm could not install {AIMOCK}: {done.stderr.strip()[-300:]}")


def wait_for(process: "subprocess.Popen[bytes]", server: Aimock, log: Path) -> Aimock:
    """The server, once it answers."""
    deadline = time.monotonic() + STARTUP_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            server.journal()
        except (URLError, OSError):
            time.sleep(0.05)
        else:
            return server
    raise AimockMissing(f"{AIMOCK} did not start: {log.read_text()[-300:]}")


@click.command()
@click.option("--questions", "count", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of our own server's faults.")
def main(count: int, seed: int) -> None:
    """Ask so many questions of each server and compare what it has seen with the ledger."""
    parts, missing = own_server(count, seed), None
    try:
        parts += other_server(count)
    except AimockMissing as error:
        missing = str(error)
    for counts in parts:
        click.echo(as_text(counts))
    if missing:
        click.echo(f"NOT RUN: {AIMOCK}: {missing}")
    record = {"seed": seed, "parts": parts, "not_run": missing, **provenance()}
    PATH.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    sys.exit(int(any(map(broken_claims, parts))))


if __name__ == "__main__":
    main()
