"""What `benchmarks.faults` counts: outcomes of the questions, rows of the ledger, requests at the server, money."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faulty_questions import CONCURRENCY, RUN, Asking
from cyclealign.errors import BudgetReached
from storage.ledger import Ledger
from tasks.cycle.ranking import RankingOutcome, RankingQuestion

Row = dict[str, Any]
ATTEMPTS = """
    select
        call_key, state, failure, epoch_us(started_at) as started_at, epoch_us(ended_at) as ended_at,
        reserved_usd::double as reserve, coalesce(cost_usd, reserved_usd)::double as cost
    from api_attempts
    where run_name = $run_name
"""


@dataclass
class Part:
    """One server's part of the benchmark."""

    server: str
    questions: int
    answered: int
    recorded: Counter[str]
    """Questions without an answer, by reason."""
    stopped: Counter[str]
    """Questions that were not asked to the end because the run was paused, by what paused it."""
    attempts: int
    failures: Counter[str]
    """Attempts that brought nothing, by kind."""
    open_attempts: int
    bought_twice: int
    """Calls that were answered more than once."""
    most_at_once: int
    spend_usd: float
    most_committed_usd: float
    """The highest sum, at any moment, of what was spent and what was reserved for attempts under way."""
    cap_usd: float
    seconds: float
    wrong: int = 0
    """Rankings that are not the one that the server gave."""
    requests: int = 0
    at_the_server: Counter[str] = field(default_factory=Counter)
    charged_usd: float = 0.0
    """What a provider would have charged for, by the server's count."""
    before_the_cap_was_raised: "Part | None" = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `dataclasses.asdict` would make counters of the pairs."""
        first = self.before_the_cap_was_raised
        return vars(self) | {"before_the_cap_was_raised": first and first.as_dict()}

    def broken_claims(self) -> list[str]:
        """The claims that do not hold."""
        first = self.before_the_cap_was_raised
        claims = {
            "every question is answered or recorded": self._complete(),
            "no ranking but the server's": self.wrong == 0,
            "no attempt is left open": self.open_attempts == 0,
            "no answer is bought twice": self.bought_twice == 0,
            "no request without its attempt": self.requests <= self.attempts,
            "at most 16 at once": self.most_at_once <= CONCURRENCY,
            "the cap is never exceeded": self.most_committed_usd <= self.cap_usd,
            "spend covers what was charged": self.charged_usd <= self.spend_usd + 1e-9,
        }
        broken = [claim for claim, holds in claims.items() if not holds]
        return broken + (first.broken_claims() if first else [])

    def _complete(self) -> bool:
        reached = self.stopped[BudgetReached.__name__]  # only the cap may stop one, where it does not suffice
        return self.answered + self.recorded.total() + reached == self.questions

    def as_text(self) -> str:
        """The counts, for people."""
        first = self.before_the_cap_was_raised
        lines = [
            f"{self.server}: {self.questions:,} questions in {self.seconds:.0f} s",
            f"  answered {self.answered:,}; recorded with a reason: {_listed(self.recorded)}",
            f"  attempts in the ledger {self.attempts:,}, failed: {_listed(self.failures)}",
            f"  at most {self.most_at_once} at once; spent ${self.spend_usd:.4f} of ${self.cap_usd:.2f}, with "
            f"reserves never above ${self.most_committed_usd:.4f}",
        ]
        if self.stopped:
            lines.append(f"  stopped: {_listed(self.stopped)}")
        if self.requests:
            lines.append(f"  requests at the server {self.requests:,}: {_listed(self.at_the_server)}")
            lines.append(f"  charged for there: ${self.charged_usd:.4f}")
        lines += [f"  BROKEN: {claim}" for claim in self.broken_claims()]
        return "\n".join([first.as_text(), *lines] if first else lines)


def account(server: str, ledger: Ledger, asked: Sequence[RankingQuestion], asking: Asking, cap_usd: float) -> Part:
    """What the ledger and the outcomes tell."""
    outcomes = asking.outcomes
    done = [one for one in outcomes if isinstance(one, RankingOutcome)]
    rows = attempts(ledger)
    answers = Counter(row["call_key"] for row in rows if row["state"] == "answered")
    return Part(
        server=server,
        questions=len(asked),
        answered=sum(one.answer is not None for one in done),
        recorded=Counter(one.unranked.reason for one in done if one.unranked),
        stopped=Counter(type(one).__name__ for one in outcomes if not isinstance(one, RankingOutcome)),
        attempts=len(rows),
        failures=Counter(row["failure"] for row in rows if row["state"] == "failed"),
        open_attempts=sum(row["state"] == "in_flight" for row in rows),
        bought_twice=sum(count > 1 for count in answers.values()),
        most_at_once=int(highest([(row, 1, -1) for row in rows])),
        spend_usd=sum(row["cost"] for row in rows),
        most_committed_usd=highest([(row, row["reserve"], row["cost"] - row["reserve"]) for row in rows]),
        cap_usd=cap_usd,
        seconds=round(asking.seconds, 1),
    )


def attempts(ledger: Ledger) -> list[Row]:
    """All attempts of the run; money as floats, moments in microseconds."""
    frame, _ = ledger.query_anywhere(ATTEMPTS, {"run_name": RUN})
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def highest(changes: Sequence[tuple[Row, float, float]]) -> float:
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


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"
