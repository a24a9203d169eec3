"""The white box of a run: in this process alone, or on several ranks of this machine behind the methods of one.

This process is rank 0; the others are `rank_worker` programs, which it starts, watches and ends, in the environment
that torchrun and DeepSpeed give their processes, less everything secret. They share out the prompts of a wave for
sampling and scoring and the examples of an optimizer step for training; what comes back is what one rank gives, up to
the order of a sum. Rank 0 sends commands over a pipe that only the two of them have: the name of a `rank_worker.Worker`
method with its arguments. The other answers each with `DONE`, or with `Failed` and ends itself; a closed pipe means
that the other side is gone. A rank that ends early ends the run with a `RankLost` that names it. Called by
`tasks.cycle.assembly`; leaves out how work is shared (`white_box`, `training`).
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import torch

from cyclealign.errors import ModelError, RankLost
from cyclealign.records import Prompt, Response
from cyclealign.settings import SamplingSettings, WhiteBoxSettings
from cyclealign.white_box.device_memory import ANY, advice
from cyclealign.white_box.loading import Recipe, load_pretrained, resolve_device
from cyclealign.white_box.process_group import break_up, join, launch_environment, launched_as, leave
from cyclealign.white_box.white_box import WhiteBox

COMPUTES_WITH = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|LANG|LANGUAGE|LC_\w+|TZ|TE?MP|TMPDIR|XDG_\w+|VIRTUAL_ENV|PYTHON\w+|LD_\w+|CC|CXX"
    r"|CYCLEALIGN_HOME|HF_HOME|HF_HUB_CACHE|(CUDA|NVIDIA|NCCL|GLOO|UCX|HIP|ROCR|OMP|GOMP|KMP|MKL|OPENBLAS|DNNL|ONEDNN|BLIS"
    r"|TORCH\w*|PYTORCH|TRITON|DS|ACCELERATE|TRANSFORMERS|TOKENIZERS)_\w+"
)
"""Environment variables that the other ranks get, and no others: they compute, and reach nothing."""
LOOK_EVERY_S = 0.2
PATIENCE_S = 30.0
"""How long rank 0 may still wait for a rank that has died, before it ends itself; in a gloo group it never waits."""
EXIT_S = 10.0
BLAME_S = 5.0
"""How long an error of rank 0 waits for a rank that explains it."""
SETTLE_S = 0.5
"""Ranks that fail because another did need a moment to report it; the error names the first one."""

Command = tuple[str, tuple[Any, ...]]
"""A method of `rank_worker.Worker`, and its arguments."""
DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Failed:
    """The last words of a rank."""

    error: str
    """Its class and message."""
    traceback: str
    when: float
    """By the machine's monotonic clock: the first to fail is the cause of what others then report."""


@dataclass
class Follower:
    """A rank other than 0."""

    rank: int
    process: "subprocess.Popen[bytes]"
    connection: Connection
    log: Path
    failure: Failed | None = None

    def ended(self) -> bool:
        """Whether it failed or is gone; keeps its last words."""
        with suppress(EOFError, OSError):
            while self.failure is None and self.connection.poll():
                answer = self.connection.recv()
                self.failure = answer if isinstance(answer, Failed) else None
        return self.failure is not None or self.process.poll() is not None

    def end(self) -> str:
        """How it ended, in words."""
        if self.failure is not None:
            return f"failed: {self.failure.error[:500]}"
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            how += " (as a kernel does that runs out of memory)"
        last = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        return how + (f", its last line: {last[0][:300]}" if last else "")


class Ranks:
    """The other ranks of a run; made by `started`."""

    def __init__(self, followers: Sequence[Follower], folder: Path, patience_s: float) -> None:
        self.folder = folder
        """Where the ranks meet; private, and gone with them."""
        self.followers = followers
        self._patience_s = patience_s
        self._busy, self._over = False, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def doing(self, method: str, *arguments: Any) -> Iterator[None]:
        """All other ranks call this method of their workers while rank 0 does its own part in the block.

        Raises:
            RankLost: a rank failed or is gone.
        """
        self._busy = True
        try:
            for one in self.followers:
                try:
                    one.connection.send((method, arguments))
                except OSError:
                    raise self._loss() from None
            yield
            self.hear()
            return
        except RuntimeError as error:  # what torch raises when the group breaks, among other things
            if not self._lost(BLAME_S):
                raise
            problem = str(error)
        finally:
            self._busy = False
        raise self._loss(problem)

    def hear(self) -> None:
        """Wait until every rank has answered.

        Raises:
            RankLost: a rank failed or is gone.
        """
        waiting: dict[Any, Follower] = {one.connection: one for one in self.followers}
        while waiting:
            for connection in wait(list(waiting)):
                follower = waiting.pop(connection)
                try:
                    answer = follower.connection.recv()
                except (EOFError, OSError):
                    raise self._loss() from None
                if isinstance(answer, Failed):
                    follower.failure = answer
                    raise self._loss()

    def end(self, *, broken: bool) -> None:
        """End the ranks; when nothing is `broken` all leave the group together."""
        if not broken:
            with suppress(RankLost), self.doing("leave"):  # the work is done: a rank that is lost here is no loss
                leave()
        self._over.set()
        for one in self.followers:
            one.connection.close()  # which ends a rank wherever it is
        leave(broken=True)
        for one in self.followers:
            try:
                one.process.wait(EXIT_S)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()

    def _lost(self, patience_s: float) -> list[Follower]:
        """The ranks that ended, once there are any."""
        until = time.monotonic() + patience_s
        while not any(one.ended() for one in self.followers):
            if time.monotonic() > until:
                return []
            time.sleep(0.02)
        time.sleep(SETTLE_S)
        return [one for one in self.followers if one.ended()]

    def _loss(self, otherwise: str = "it closed its pipe and lives") -> RankLost:
        """The error that names the rank which ended first: one that was killed had no time for words."""
        lost = self._lost(EXIT_S)
        if not lost:
            return RankLost(f"A rank does not answer: {otherwise}. {_ADVICE}")
        first = min(lost, key=lambda one: one.failure.when if one.failure else -1.0)
        ranks = len(self.followers) + 1
        error = RankLost(
            f"Rank {first.rank} of {ranks} (process {first.process.pid}) {first.end()}. {what_to_do(first.failure)}"
        )
        if first.failure is not None:
            error.add_note(f"In rank {first.rank}:\n{first.failure.traceback}")
        return error

    def _watch(self) -> None:
        """Free rank 0 where it waits for a rank that has died."""
        died, may_wait = None, False
        while not self._over.wait(LOOK_EVERY_S):
            dead = self._busy and any(one.process.poll() is not None for one in self.followers)
            if not dead:
                died = None
            elif died is None:
                died, may_wait = time.monotonic(), break_up()
            elif may_wait and time.monotonic() - died > self._patience_s:
                # End this process as a kill would: the run is then interrupted, and goes on with the same command.
                os.write(2, f"cyclealign: {self._loss()}\n".encode())
                shutil.rmtree(self.folder, ignore_errors=True)
                os._exit(1)


_ADVICE = (
    "Expected every rank to stay until the end. What was computed is in the ledger: the same command again "
    "continues, with --set training.ranks=1 in one process."
)


def what_to_do(failure: Failed | None) -> str:
    """About a rank that failed, or died without a word (None)."""
    if failure is not None and failure.error.startswith(torch.OutOfMemoryError.__name__):
        return advice(ANY)
    return _ADVICE


@contextmanager
def started(ranks: int, secrets: Collection[str], patience_s: float = PATIENCE_S) -> Iterator[Ranks]:
    """The other ranks, for the duration; this process is rank 0 meanwhile.

    Args:
        ranks: How many there are with rank 0.
        secrets: Environment variables that they do not get under any name.
        patience_s: How long rank 0 may wait for one that has died before it ends itself, seconds.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cyclealign-ranks-", ignore_cleanup_errors=True) as folder,
        launched_as(0, ranks),
    ):
        computing = worker_environment(os.environ, secrets)
        followers = [
            _start(rank, computing | launch_environment(rank, ranks), Path(folder)) for rank in range(1, ranks)
        ]
        held, broken = Ranks(followers, Path(folder), patience_s), True
        try:
            yield held
            broken = False
        finally:
            held.end(broken=broken)


def worker_environment(environment: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """The part of an environment that computing needs: no secret, nothing of Prefect, no way to the network.

    Models come from the cache, modules from where this process has them.
    """
    kept = {name: value for name, value in environment.items() if COMPUTES_WITH.fullmatch(name) and name not in secrets}
    return {**kept, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _start(rank: int, environment: Mapping[str, str], folder: Path) -> Follower:
    ours, theirs = Pipe()
    log = folder / f"rank-{rank}.log"
    with log.open("wb") as output, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cyclealign.white_box.rank_worker", str(theirs.fileno()), str(folder)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is rank 0's to handle
        )
    return Follower(rank, process, ours, log)


P = ParamSpec("P")
R = TypeVar("R")


def _on_all_ranks(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate["RankedWhiteBox", P], R]:
    """A method of the white box that the other ranks call at the same time with the same arguments."""

    def together(self: "RankedWhiteBox", /, *arguments: P.args, **named: P.kwargs) -> R:
        with self.ranks.doing("call", method.__name__, arguments, named):
            return method(self, *arguments, **named)

    return functools.update_wrapper(together, method)


class RankedWhiteBox(WhiteBox):
    """The white box as rank 0 has it; every method that computes has the other ranks call it too."""

    ranks: Ranks

    @classmethod
    def led(cls, ranks: Ranks, recipe: Recipe) -> "RankedWhiteBox":
        """The white box of the recipe on all ranks.

        Rank 0 loads it first and alone, because it may have to come from the hub; the others find it in the cache.

        Raises:
            ModelError: the model or the adapter cannot be had as asked.
            RankLost: another rank failed.
        """
        device = resolve_device(recipe.settings)
        pretrained = load_pretrained(recipe.settings, recipe.model_path, device)
        ranks.hear()  # they have started meanwhile
        with ranks.doing("join", recipe.settings, torch.get_num_threads()):
            join(ranks.folder, device)
        with ranks.doing("load", recipe):
            white_box = cls.under_new_adapter(pretrained, recipe)
        white_box.ranks = ranks
        return white_box

    def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], responses: int, sampling: SamplingSettings
    ) -> list[list[Response]]:
        """See `WhiteBox.sample`; rank 0 alone fetches a server's responses."""
        sample = super().sample if sampling.engine == "vllm" else self._sample_together
        return sample(prompts, seeds, responses, sampling)

    _sample_together = _on_all_ranks(WhiteBox.sample)
    log_probabilities = _on_all_ranks(WhiteBox.log_probabilities)
    optimize = _on_all_ranks(WhiteBox.optimize)
    save_checkpoint = _on_all_ranks(WhiteBox.save_checkpoint)  # rank 0 alone writes
    load_checkpoint = _on_all_ranks(WhiteBox.load_checkpoint)
    save_adapter = _on_all_ranks(WhiteBox.save_adapter)  # rank 0 alone writes
    weights_sha256 = _on_all_ranks(WhiteBox.weights_sha256)


@contextmanager
def white_box_alone(recipe: Recipe) -> Iterator[WhiteBox]:
    """The white box of the recipe in this process only, which may load another afterwards.

    Raises:
        ModelError: the model or the adapter cannot be had as asked.
    """
    try:
        with closing(WhiteBox.load(recipe)) as white_box:
            yield white_box
    finally:
        leave()


@contextmanager
def white_box_of_ranks(recipe: Recipe, secrets: Collection[str]) -> Iterator[RankedWhiteBox]:
    """The white box of the recipe on `training.ranks` ranks of this machine, which end with the block.

    Args:
        secrets: Environment variables with keys, which no rank but 0 gets.

    Raises:
        ModelError: the model cannot be had as asked.
        RankLost: a rank failed or is gone.
    """
    with started(recipe.training.ranks, secrets) as ranks, closing(RankedWhiteBox.led(ranks, recipe)) as white_box:
        yield white_box


def refuse_too_many_ranks(settings: WhiteBoxSettings, ranks: int) -> None:
    """Raise `ModelError` where not every rank would have a CUDA device of its own."""
    if ranks > 1 and resolve_device(settings).type == "cuda" and torch.cuda.device_count() < ranks:
        raise ModelError(
            f"training.ranks = {ranks}, but torch finds {torch.cuda.device_count()} CUDA devices. Expected one for "
            "each rank. Lower training.ranks, or set CUDA_VISIBLE_DEVICES to more of them."
        )
