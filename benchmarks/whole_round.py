"""A whole round against the sum of its bare parts: what the application adds to sampling, scoring and training.

Both sides do the same arithmetic on an 8-layer model, one prompt at a time as in the paper, in segments of ten rounds
that alternate. The whole is `tasks.cycle.loop.run_segment` in a flow: ledger, demonstrations, the question to a judge
that answers at once, progress, and the segment's task run; a real segment has 25 rounds, so the task's share is
overstated. The parts are the calls of the white box alone: sample, score, one optimizer step on an example that was
made before. Start and checkpoints are left out. Both begin with equal weights; that they sample the same tokens and end
with the same weights is checked. A process of its own measures, with a home and a Prefect server of its own.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from prefect import flow

from benchmarks import made_up
from benchmarks.laptop import RUN, environment, finished
from benchmarks.measuring import Row, in_turn, seconds
from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.offline.chat_server import create_app
from cyclealign.profiles import resolve
from cyclealign.records import Prompt, TrainingExample
from cyclealign.seeds import derive_seed
from cyclealign.settings import Settings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.white_box import WhiteBox
from storage import rounds, runs
from storage.ledger import Ledger
from storage.rounds import StaticDemonstration
from tasks.asking.protocol import Account, Direct
from tasks.asking.questions import Asker
from tasks.context import RunContext, new_run
from tasks.cycle.assembly import demonstration_pool, make_progress
from tasks.cycle.loop import Cycle, begin, conclude, example, run_segment, train
from tasks.cycle.segments import Segment, segments

REPEATS = 3
STEPS = 10
"""Rounds of one side in a repeat."""
CANDIDATES, PROMPT_TOKENS, RESPONSE_TOKENS = 3, 256, 96
IN_PROCESS = (
    "import json; from cli.server import in_process; print(json.dumps(in_process({entry!r}, **{parameters!r})))"
)


def rows(repeats: int = REPEATS, steps: int = STEPS, shape: Mapping[str, Any] = made_up.SMALL) -> list[Row]:
    """How many times as long as its parts a round takes."""
    with tempfile.TemporaryDirectory() as folder:
        asked = {"folder": folder, "shape": dict(shape), "repeats": repeats, "steps": steps}
        program = IN_PROCESS.format(entry="benchmarks.whole_round:measured", parameters=asked)
        pairs = json.loads(finished([sys.executable, "-c", program], environment(Path(folder))).splitlines()[-1])
    ratios = tuple(whole / parts for whole, parts in pairs)
    whole, parts = (median(side) / steps for side in zip(*pairs, strict=True))
    sizes = f"{PROMPT_TOKENS} + {CANDIDATES}·{RESPONSE_TOKENS} tokens, {shape['num_hidden_layers']} layers"
    note = f"{whole:.2f} s against {parts:.2f} s; {sizes} · {shape['hidden_size']}, {os.cpu_count()} CPUs, "
    return [
        Row("a whole round against its bare parts", ratios, note=f"{note}the same tokens and weights", at_most=1.02)
    ]


@flow(name="whole-round")
def measured(folder: str, shape: dict[str, Any], repeats: int, steps: int) -> list[tuple[float, float]]:
    """Seconds of (the whole, its parts) for so many rounds, per repeat."""
    home = Path(folder)
    settings = settings_for(made_up.save(home / "model", shape), repeats * steps, steps)
    prompts = [made_up.prompt(shape["vocab_size"], PROMPT_TOKENS, number) for number in range(repeats * steps)]
    with cycle_of(Ledger(home / "before"), settings, prompts) as cycle:  # warms both sides up, too
        parts = Parts(new_white_box(settings), settings, prompts, examples_of(cycle))
    with cycle_of(Ledger(home / "whole"), settings, prompts) as cycle, cycle.progress.showing():
        whole, bare = iter(segments(settings, len(prompts))), iter(segments(settings, len(prompts)))
        pairs = in_turn(
            lambda: seconds(partial(run_segment, cycle, next(whole))),
            lambda: seconds(partial(parts.run, next(bare))),
            repeats,
        )
        found = rounds.recorded(cycle.ledger, cycle.run_name, 0, len(prompts))
        tokens = {step: [one.tokens for one in known.sampled.responses] for (step, _), known in found.items()}
        same_weights = cycle.white_box.weights_sha256() == parts.white_box.weights_sha256()
    if tokens != parts.sampled or not same_weights:
        raise RuntimeError("Found other tokens or weights in whole rounds than in their parts, expected the same.")
    return pairs


def settings_for(model: Path, prompts: int, steps: int) -> Settings:
    """One prompt at a time, one round each, a segment of so many steps."""
    profile = {
        "data": {"source": "folder", "prompts": prompts},
        "white_box": {
            "model": str(model),
            "dtype": "float32",
            "prompt_format": "plain",
            "max_length": PROMPT_TOKENS + RESPONSE_TOKENS,
            "sampling": {"max_new_tokens": RESPONSE_TOKENS},
        },
        "method": {"candidates": CANDIDATES, "rounds": 1},
        "training": {"checkpoint_every": steps},
        "black_box": {"endpoint": "preference"},  # in this process; `cycle_of` puts its own judge behind it
    }
    return resolve("whole-round", profile, {})


@contextmanager
def cycle_of(ledger: Ledger, settings: Settings, prompts: Sequence[Prompt]) -> Iterator[Cycle]:
    """The parts of a new run, as `tasks.cycle.assembly` puts them together, with a judge that takes no time."""
    context = RunContext(ledger.home, RUN, settings, ledger)
    runs.register(ledger, new_run(context))
    ledger.record(StaticDemonstration(RUN, STATIC_DEMONSTRATION))
    white_box = new_white_box(settings)
    rewrite = made_up.words(len(white_box.prompt_format.tokenizer), RESPONSE_TOKENS - 1, "rewrite")
    judge = create_app(made_up.InstantJudge(CANDIDATES, rewrite), settings.black_box.model)
    black_box = settings.black_box
    account = Account(ledger, RUN, black_box, lambda: ChatEndpoint(black_box, judge))
    with Asker(Direct(account)) as asker:
        yield Cycle(
            ledger=ledger,
            run_name=RUN,
            settings=settings,
            prompts=prompts,
            white_box=white_box,
            ask=asker.submit,
            pool=demonstration_pool(context, 0),
            progress=make_progress(context, list(prompts)),
            resumption=None,
        )
    ledger.close()


def new_white_box(settings: Settings) -> WhiteBox:
    """Before any step; equal settings give equal weights."""
    return WhiteBox.load(Recipe(settings.white_box, settings.training, settings.method, settings.seed))


def run_rounds(cycle: Cycle, steps: Sequence[int]) -> None:
    """These steps without Prefect, one round each."""
    for step in steps:
        turn = begin(cycle, [step], 1, {})
        train(cycle, turn, conclude(cycle, turn))


def examples_of(cycle: Cycle) -> dict[int, TrainingExample]:
    """What each step learns from, found by running the cycle once."""
    run_rounds(cycle, range(len(cycle.prompts)))
    found = rounds.recorded(cycle.ledger, RUN, 0, len(cycle.prompts))
    return {step: example(cycle, one.sampled, one.ranked) for (step, _), one in found.items() if one.ranked}


@dataclass
class Parts:
    """The calls of the white box in a segment's rounds, and nothing around them."""

    white_box: WhiteBox
    settings: Settings
    prompts: Sequence[Prompt]
    examples: Mapping[int, TrainingExample]
    sampled: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)
    """Tokens of the candidates, by step."""

    def run(self, segment: Segment) -> None:
        """The steps of a segment, one after the other."""
        box = self.white_box
        for step in range(segment.first, segment.last):
            prompt, seed = self.prompts[step], derive_seed(self.settings.seed, "sample", step, 1)
            [responses] = box.sample([prompt], [seed], CANDIDATES, self.settings.white_box.sampling)
            self.sampled[step] = [one.tokens for one in responses]
            box.log_probabilities([(prompt, self.sampled[step])])
            box.optimize([self.examples[step]], progress=step / len(self.prompts))
