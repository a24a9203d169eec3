"""A round as the train flow runs it, and its bare parts on a white box of the same weights: `benchmarks.whole_round`.

The whole is `tasks.cycle.loop.run_segment` in a flow: ledger, demonstrations, questions over the
client, progress, task run.
The parts are the calls of the white box alone: sample, score, one optimizer step on an example that was made before.
Both begin with equal weights and do the same in the same order, so they sample the same tokens and end with the same
weights, which is checked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prefect import flow

from benchmarks import made_up_model
from benchmarks.instant_judge import InstantJudge
from benchmarks.laptop_run import RUN
from benchmarks.measuring import seconds, side_by_side
from benchmarks.ranking_steps import Sizes
from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.offline.chat_server import create_app
from cyclealign.profiles import resolve
from cyclealign.records import Prompt, TrainingExample
from cyclealign.seeds import derive_seed
from cyclealign.settings import Settings
from cyclealign.white_box.white_box import WhiteBox
from storage import rounds, runs
from storage.ledger import Ledger
from tasks.asking.protocol import Asker
from tasks.context import RunContext, new_run
from tasks.cycle.assembly import demonstration_pool, make_progress
from tasks.cycle.loop import Cycle, begin, conclude, example, run_segment, train
from tasks.cycle.ranking import RankingDesk
from tasks.cycle.segments import Segment, segments

CANDIDATES = 3
Tokens = dict[int, list[tuple[int, ...]]]
"""Of the candidates, by step."""


@flow(name="whole-round")
def measured(folder: str, sizes: Sizes, repeats: int, steps: int) -> list[tuple[float, float]]:
    """Seconds of (the whole, its parts) for so many rounds, per repeat."""
    home = Path(folder)
    settings = settings_for(made_up_model.save(home / "model", sizes), sizes, repeats * steps, steps)
    prompts = made_up_model.prompts(sizes, settings.data.prompts)
    examples = made_before(home / "before", settings, prompts, sizes)
    parts = Parts(new_white_box(settings), settings, prompts, examples)
    with cycle_of(home / "whole", settings, prompts, sizes) as cycle, cycle.progress.showing():
        whole, bare = iter(segments(settings, len(prompts))), iter(segments(settings, len(prompts)))
        pairs = side_by_side(
            lambda: seconds(partial(run_segment, cycle, next(whole))),
            lambda: seconds(partial(parts.run, next(bare))),
            repeats,
        )
        check_equal(cycle, parts)
    return pairs


def settings_for(model: Path, sizes: Sizes, prompts: int, steps: int) -> Settings:
    """One prompt at a time, one round each, a segment of so many steps."""
    profile = {
        "data": {"source": "folder", "prompts": prompts},
        "white_box": {
            "model": str(model),
            "dtype": "float32",
            "prompt_format": "plain",
            "max_length": sizes.prompt + sizes.response,
            "sampling": {"max_new_tokens": sizes.response},
        },
        "method": {"candidates": CANDIDATES, "rounds": 1},
        "training": {"checkpoint_every": steps},
        "black_box": {"endpoint": "preference"},  # in this process; which judge answers is `cycle_of`'s affair
    }
    return resolve("whole-round", profile, {})


@contextmanager
def cycle_of(home: Path, settings: Settings, prompts: list[Prompt], sizes: Sizes) -> Iterator[Cycle]:
    """The parts of a new run, as `tasks.cycle.assembly` puts them together, with a judge that takes no time."""
    context = RunContext(home, RUN, settings, Ledger(home))
    runs.register(context.ledger, new_run(context))
    rounds.record_static(context.ledger, RUN, STATIC_DEMONSTRATION)
    judge = InstantJudge(CANDIDATES, made_up_model.words(sizes.vocabulary, sizes.response - 1, "rewrite"))
    black_box = ChatEndpoint(settings.black_box, create_app(judge, settings.black_box.model))
    asker = Asker(context.ledger, black_box, settings.black_box, RUN)
    with RankingDesk(asker, settings.method, settings.black_box) as desk:
        yield Cycle(
            ledger=context.ledger,
            run_name=RUN,
            settings=settings,
            prompts=prompts,
            white_box=new_white_box(settings),
            desk=desk,
            pool=demonstration_pool(context, 0),
            progress=make_progress(context, prompts),
            resumption=None,
        )
    context.ledger.close()


def new_white_box(settings: Settings) -> WhiteBox:
    """Before any step; equal settings give equal weights."""
    return WhiteBox.load(settings.white_box, settings.training, settings.method, seed=settings.seed)


def made_before(home: Path, settings: Settings, prompts: list[Prompt], sizes: Sizes) -> dict[int, TrainingExample]:
    """What each step learns from, found by running the cycle once; that warms both sides up, too."""
    with cycle_of(home, settings, prompts, sizes) as cycle:
        run_rounds(cycle)
        found = rounds.recorded(cycle.ledger, RUN, 0, len(prompts))
        return {
            step: example(cycle, one.sampled, one.ranked)
            for (step, _), one in found.items()
            if one.ranked and one.ranked.answer
        }


def run_rounds(cycle: Cycle) -> None:
    """All steps without Prefect, one round each."""
    for step in range(len(cycle.prompts)):
        turn = begin(cycle, [step], 1, {})
        train(cycle, turn, conclude(cycle, turn))


@dataclass
class Parts:
    """The calls of the white box that a round consists of, and nothing around them."""

    white_box: WhiteBox
    settings: Settings
    prompts: list[Prompt]
    examples: dict[int, TrainingExample]
    sampled: Tokens = field(default_factory=dict)

    def run(self, segment: Segment) -> None:
        """The steps of a segment, one after the other."""
        for step in range(segment.first, segment.last):
            self.sampled[step] = self._round(step)

    def _round(self, step: int) -> list[tuple[int, ...]]:
        box, prompt = self.white_box, self.prompts[step]
        seed = derive_seed(self.settings.seed, "sample", step, 1)
        [responses] = box.sample([prompt], [seed], CANDIDATES, self.settings.white_box.sampling)
        tokens = [one.tokens for one in responses]
        box.log_probabilities([(prompt, tokens)])
        box.optimize([self.examples[step]], progress=step / len(self.prompts))
        return tokens


def check_equal(cycle: Cycle, parts: Parts) -> None:
    """See that both sides did the same.

    Raises:
        RuntimeError: they sampled other tokens, or ended with other weights.
    """
    found = rounds.recorded(cycle.ledger, cycle.run_name, 0, len(cycle.prompts))
    whole = {step: [one.tokens for one in known.sampled.responses] for (step, _), known in found.items()}
    if whole != parts.sampled:
        raise RuntimeError("Found other tokens in whole rounds than in their parts, expected the same.")
    if cycle.white_box.weights_sha256() != parts.white_box.weights_sha256():
        raise RuntimeError("Found other weights after whole rounds than after their parts, expected the same.")
