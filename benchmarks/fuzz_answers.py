"""Malformed answers by the ten thousand: `python -m benchmarks.fuzz_answers [--answers N] [--seed S]`.

Claim: no text that a model may give crashes the reader, and no ranking is accepted that is not the one the text
states. Three sources of equal size: a grammar of nearly right answers (hypothesis), good answers with seeded damage
(flipped bytes, splices, repetitions), and bodies of chat completions with the same damage, read as an endpoint's.
Every accepted answer is held against an oracle that splits the text by hand (`tests.method.malformed_answers`).

Prints the counts, writes `fuzz_answers.json`; exit code 1 when there was a crash, or one accepted wrongly.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import hypothesis
from hypothesis import strategies as st

from benchmarks.results import provenance
from cyclealign.black_box.endpoint import read_reply
from cyclealign.errors import CallTransient
from cyclealign.method.answers import AnswerRejected, read_ranking_answer
from tests.method.malformed_answers import GOOD, MOST_CANDIDATES, Mutator, near_answers, objection

PATH = Path(__file__).parent / "fuzz_answers.json"
SHOWN = 300
"""Characters of an offending text that are kept."""
Read = Callable[[str, int], str]
"""Reads a text as an answer for so many candidates; returns what it came to."""


@dataclass
class Tally:
    """What the texts of one source came to."""

    source: str
    texts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Crashes and wrongly accepted rankings, each with the text's beginning."""
    slowest_ms: float = 0.0

    def take(self, read: Read, text: str, candidates: int) -> None:
        """Read one text and count what came of it."""
        started = time.perf_counter()
        try:
            outcome = read(text, candidates)
        except Exception as error:  # a crash is what is looked for
            outcome = f"crash: {type(error).__name__}: {error}"[:SHOWN]
        self.slowest_ms = max(self.slowest_ms, 1000 * (time.perf_counter() - started))
        self.texts += 1
        self.outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith(("crash", "wrong")):
            self.wrong.append(f"{outcome}: {text[:SHOWN]!r} for {candidates} candidates")


def answer_outcome(text: str, candidates: int, finish: str | None = "stop", refusal: str | None = None) -> str:
    """`accepted`, `wrong: …` by the oracle, or the reason of the rejection."""
    try:
        answer = read_ranking_answer(text, finish, refusal, candidates)
    except AnswerRejected as rejected:
        return rejected.reason
    found = objection(text, candidates, answer)
    return "accepted" if found is None else f"wrong: {found}"


def body_outcome(text: str, candidates: int) -> str:
    """The same for the body of a chat completion."""
    try:
        reply = read_reply(text)
    except CallTransient as failure:
        return failure.kind
    return answer_outcome(reply.content or "", candidates, reply.finish_reason, reply.refusal)


def from_grammar(answers: int, seed: int) -> Tally:
    """Texts along the grammar; read after they are drawn, because hypothesis raises the limit of recursion."""
    tally, drawn = Tally("grammar"), list[tuple[str, int]]()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=answers,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(near_answers, st.integers(2, MOST_CANDIDATES))
    def draw(text: str, candidates: int) -> None:
        drawn.append((text, candidates))

    draw()
    for text, candidates in drawn:
        tally.take(answer_outcome, text, candidates)
    return tally


def from_damage(answers: int, seed: int, source: str, corpus: tuple[str, ...], read: Read) -> Tally:
    """Damaged members of a corpus."""
    tally, mutator, draw = Tally(source), Mutator(seed, corpus), random.Random(seed)
    for _ in range(answers):
        tally.take(read, mutator.text(), draw.randint(2, MOST_CANDIDATES))
    return tally


def bodies() -> tuple[str, ...]:
    """Bodies of chat completions around good answers."""
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return tuple(
        json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": content}}], "usage": usage})
        for answer in GOOD
        for content in (answer, [{"type": "text", "text": answer}])
    )


def show(tallies: list[Tally]) -> None:
    """The counts, for people."""
    for one in tallies:
        kinds = ", ".join(f"{name} {count:,}" for name, count in one.outcomes.most_common())
        click.echo(f"{one.source}: {one.texts:,} texts: {kinds}; slowest {one.slowest_ms:.1f} ms")
        for wrong in one.wrong[:10]:
            click.echo(f"  {wrong}")
    texts, broken = sum(one.texts for one in tallies), sum(len(one.wrong) for one in tallies)
    click.echo(f"{texts:,} malformed answers, {broken} crashes or rankings that were not given")


@click.command()
@click.option("--answers", default=12_000, show_default=True, help="Texts in all.")
@click.option("--seed", default=0, show_default=True)
def main(answers: int, seed: int) -> None:
    """Read ANSWERS malformed answers and count what they came to."""
    share = -(-answers // 3)
    tallies = [
        from_grammar(share, seed),
        from_damage(share, seed, "damaged answers", GOOD, answer_outcome),
        from_damage(share, seed + 1, "damaged bodies", bodies(), body_outcome),
    ]
    show(tallies)
    record = {"seed": seed, "sources": [vars(one) for one in tallies], **provenance()}
    PATH.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    sys.exit(int(any(one.wrong for one in tallies)))


if __name__ == "__main__":
    main()
