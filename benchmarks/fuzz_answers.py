"""Malformed answers by the ten thousand: `python -m benchmarks.fuzz_answers [--answers N] [--seed S]`.

Claim: no text that a model may give crashes the reader, and no ranking is accepted that is not the one the text
states. Three sources of equal size: a grammar of nearly right answers (hypothesis), good answers with seeded damage
(flipped bytes, splices, repetitions), and bodies of chat completions with the same damage, read as an endpoint's.
Every accepted answer is compared with an oracle that splits the text by hand (`tests.method.malformed_answers`).

Prints the counts, writes `fuzz_answers.json`; exit code 1 when there was a crash, or one accepted wrongly.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import hypothesis
from hypothesis import strategies as st

from benchmarks.measuring import provenance
from cyclealign.black_box.endpoint import read_reply
from cyclealign.errors import CallTransient
from cyclealign.method.answers import AnswerRejected, read_ranking_answer
from tests.method.malformed_answers import GOOD, MOST_CANDIDATES, Mutator, near_answers, objection

PATH = Path(__file__).parent / "fuzz_answers.json"
SHOWN = 300
"""Characters of an offending text that are kept."""
Text = tuple[str, int]
"""An answer, and how many candidates were asked about."""


def tally(source: str, texts: Iterable[Text], read: Callable[[str, int], str]) -> dict[str, Any]:
    """Read the texts of a source and count the outcomes; `wrong` are crashes and wrongly accepted rankings."""
    outcomes, wrong, slowest_ms = Counter[str](), [], 0.0
    for text, candidates in texts:
        started = time.perf_counter()
        try:
            outcome = read(text, candidates)
        except Exception as error:  # a crash is what is looked for
            outcome = f"crash: {type(error).__name__}: {error}"[:SHOWN]
        slowest_ms = max(slowest_ms, 1000 * (time.perf_counter() - started))
        outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith(("crash", "wrong")):
            wrong.append(f"{outcome}: {text[:SHOWN]!r} for {candidates} candidates")
    return {"source": source, "outcomes": outcomes, "wrong": wrong, "slowest_ms": slowest_ms}


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


def from_grammar(answers: int, seed: int) -> list[Text]:
    """Texts along the grammar, drawn before they are read, because hypothesis raises the limit of recursion."""
    drawn: list[Text] = []

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
    return drawn


def from_damage(answers: int, seed: int, corpus: tuple[str, ...]) -> Iterator[Text]:
    """Damaged members of a corpus."""
    mutator, draw = Mutator(seed, corpus), random.Random(seed)
    return ((mutator.text(), draw.randint(2, MOST_CANDIDATES)) for _ in range(answers))


def bodies() -> tuple[str, ...]:
    """Bodies of chat completions around good answers."""
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return tuple(
        json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": content}}], "usage": usage})
        for answer in GOOD
        for content in (answer, [{"type": "text", "text": answer}])
    )


@click.command()
@click.option("--answers", default=12_000, show_default=True, help="Texts in all.")
@click.option("--seed", default=0, show_default=True)
def main(answers: int, seed: int) -> None:
    """Read ANSWERS malformed answers and count the outcomes."""
    share = -(-answers // 3)
    tallies = [
        tally("grammar", from_grammar(share, seed), answer_outcome),
        tally("damaged answers", from_damage(share, seed, GOOD), answer_outcome),
        tally("damaged bodies", from_damage(share, seed + 1, bodies()), body_outcome),
    ]
    for one in tallies:
        kinds = ", ".join(f"{name} {count:,}" for name, count in one["outcomes"].most_common())
        click.echo(f"{one['source']}: {one['outcomes'].total():,} texts: {kinds}; slowest {one['slowest_ms']:.1f} ms")
        for wrong in one["wrong"][:10]:
            click.echo(f"  {wrong}")
    texts, broken = sum(one["outcomes"].total() for one in tallies), sum(len(one["wrong"]) for one in tallies)
    click.echo(f"{texts:,} malformed answers, {broken} crashes or rankings that were not given")
    record = {"seed": seed, "sources": tallies, **provenance()}
    PATH.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    sys.exit(int(broken > 0))


if __name__ == "__main__":
    main()
