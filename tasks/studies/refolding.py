"""Refolding: the cycle's own loop over the recorded rounds of another run, without sampling and without a call.

The weights are a fold over the ledger: with unchanged settings a refold ends with the weights of its source.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from cyclealign.errors import DataError, UsageError
from cyclealign.method.answers import Answer
from cyclealign.white_box.loading import load_tokenizer, tokenizer_sha256
from cyclealign.white_box.white_box import WhiteBox
from storage import refolds, runs, samples
from storage.refolds import Refolding
from tasks.asking.questions import Question, Result
from tasks.context import RunContext, new_run
from tasks.cycle.assembly import Assembly, demonstration_pool, loaded_white_box, make_progress, scoring_meanwhile
from tasks.cycle.checkpointing import go_back
from tasks.cycle.loop import Cycle
from tasks.cycle.progress import say
from tasks.models import white_box_path
from tasks.preparation import Prepared
from tasks.studies.derivation import derive, finished_source

CHANGEABLE = ("method.objective", "method.rewrite", "method.drop_repeated")


def refuse_to_ask(questions: Sequence[Question[Answer]]) -> "Future[list[Result[Answer]]]":
    """Ask nothing: the source of a refold ranked every round.

    Raises:
        DataError: always.
    """
    raise DataError(
        f"Step {questions[0].step}, round {questions[0].round} is not recorded, expected all rounds of a finished "
        "run. The ledger was changed; refold another run."
    )


def open_refold(source_run: str, name: str, overrides: Mapping[str, Any]) -> tuple[RunContext, bool]:
    """The refold of this name, registered in the ledger; the second value tells whether it is new.

    Raises:
        RunUnknown: there is no run `source_run`.
        UsageError: it is unfinished or has no rounds, or an override changes what it recorded.
        SettingsChanged: a run of this name exists with other settings or another source.
    """
    source = finished_source(source_run)
    context = derive(source, name, overrides, CHANGEABLE)
    if runs.status(source.ledger, source_run)[0].rounds == 0:
        raise UsageError(f"Run {source_run!r} has no rounds. Expected a run of the cycle, or a refold of one.")
    if source.settings.method.rewrite == "off" and context.settings.method.rewrite != "off":
        raise UsageError(
            f"Run {source_run!r} was ranked without rewrites (method.rewrite = off): there are none. "
            "Expected method.rewrite = off, or a source with rewrites."
        )
    wanted = replace(new_run(context), kind="refold", source_run=source_run)
    return context, runs.register(context.ledger, wanted)


@contextmanager
def assemble_refold(context: RunContext, prepared: Prepared) -> Iterator[Assembly]:
    """The live parts of a refold, where its last checkpoint left them; its rounds are copied if they were not yet.

    Raises:
        ModelError: a model cannot be loaded.
    """
    with loaded_white_box(context, prepared) as white_box:
        copy_rounds(context, prepared, white_box)
        start = go_back(context, white_box)
        cycle = Cycle(
            ledger=context.ledger,
            run_name=context.name,
            settings=context.settings,
            prompts=prepared.training,
            white_box=white_box,
            ask=refuse_to_ask,
            pool=demonstration_pool(context, start),
            progress=make_progress(context, prepared.training),
            resumption=None,  # nothing is ever asked: there is no replay to tell apart
        )
        yield Assembly(cycle, scoring_meanwhile(context, prepared), start)


def copy_rounds(context: RunContext, prepared: Prepared, white_box: WhiteBox) -> None:
    """Give the refold its source's rounds, in the order of its own prompts and in tokens of its own tokenizer."""
    source = context.source
    assert source is not None  # noqa: S101  a refold has one
    place = {prompt.prompt_id: step for step, prompt in enumerate(prepared.training)}
    digest = samples.of_run(context.ledger, source.name, "training") or ""
    steps = tuple(place[prompt.prompt_id] for prompt in samples.read(context.ledger, digest))
    encode = None
    if not _same_tokens(context, source, prepared, white_box):
        encode = partial(encoded, white_box, context.settings.white_box.sampling.max_new_tokens)
    refolding = Refolding(source.name, context.name, steps, context.settings.training.wave)
    if refolds.copy_once(context.ledger, refolding, encode):
        say(f"Rounds of {source.name} taken over" + (", encoded anew" if encode else ""))


def encoded(white_box: WhiteBox, limit: int, text: str, ended: bool) -> Sequence[int]:
    """A recorded response in tokens of this white box; what did not end by itself teaches no end."""
    response = white_box.encode_reply(text, limit)
    cut = response.ended and not ended and len(response.tokens) > 1
    return response.tokens[:-1] if cut else response.tokens


def _same_tokens(context: RunContext, source: RunContext, prepared: Prepared, white_box: WhiteBox) -> bool:
    """Whether the source's tokens are as good as the refold's own."""
    mine, theirs = context.settings.white_box, source.settings.white_box
    if mine.prompt_format != theirs.prompt_format:
        return False
    if (mine.model, mine.revision) == (theirs.model, theirs.revision):
        return True
    tokenizer = load_tokenizer(theirs, white_box_path(source.settings, context.home, prepared.stand_ins))
    return bool(tokenizer_sha256(tokenizer) == white_box.description["tokenizer_sha256"])
