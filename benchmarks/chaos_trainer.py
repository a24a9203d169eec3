"""A run of the laptop profile that is killed and started again until it is complete, and the same run left alone.

Every life is `cyclealign train` with the same arguments, in a session of its own: the kill takes it and its helpers at
once. Prefect's server, which the command starts in another session, is left to notice by itself.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from benchmarks.chaos_judge import JudgeProcess
from benchmarks.chaos_moments import Moment, Sight, Watch, draw, phase
from benchmarks.laptop_run import PROFILE
from benchmarks.prefect_share import ROOT
from cyclealign.seeds import derive_seed
from tests.flows.lives import Life
from tests.flows.remains import Remains, remains

PRICE = {"input": 1.0, "output": 2.0}
"""US dollars per million tokens, so that money is counted."""
ARRIVING_S = 0.2
"""What a killed process has sent may still be on its way to the judge's log."""


class Kills:
    """How many kills are left; several runs take from them."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one; False when there is none left."""
        with self._lock:
            self._left -= 1
            if self._left < 0:
                self._left = 0
                return False
            return True

    def give_back(self) -> None:
        """The run ended before it was killed."""
        with self._lock:
            self._left += 1

    def any_left(self) -> bool:
        """Whether another run should be begun."""
        with self._lock:
            return self._left > 0


@dataclass(frozen=True)
class Kill:
    """One kill, for the table."""

    moment: Moment
    at: float
    """Seconds since the epoch."""
    seconds: float
    """Since the start of this life."""
    phase: str = ""
    rounds: int = 0
    """Recorded by then."""


@dataclass
class Trainer:
    """One run, in a home of its own that shares the built world."""

    folder: Path
    world: Path
    judge: JudgeProcess
    seed: int
    name: str
    kills: list[Kill] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    _watch: Watch = field(default_factory=Watch)
    _process: "subprocess.Popen[bytes] | None" = None
    _stopped: bool = False

    @property
    def home(self) -> Path:
        """Where everything of the run is kept."""
        return self.folder / self.name

    def go(self, kills: Kills | None = None) -> None:
        """Start the run again and again until it is complete; it is killed as long as there are kills.

        Raises:
            RuntimeError: it ended by itself, and not well; or somebody called `stop`.
        """
        self.home.mkdir()
        (self.home / "world").symlink_to(self.world)
        while True:
            kill = kills is not None and kills.take()
            killed = self._life(kill=kill)
            if kills is not None and kill and not killed:
                kills.give_back()
            if not killed:
                return

    def stop(self) -> None:
        """Leave nothing running; called from another thread."""
        self._stopped = True
        if self._process is not None:
            _kill(self._process)

    def _life(self, *, kill: bool) -> bool:
        """One start; returns whether it was killed, and not complete before that."""
        number, asked = len(self.lives), len(self._asked())
        said = self.home / f"life-{number}.txt"
        sight = Sight(self.home, said, lambda: self.judge.is_asked_by(self.name), time.time())
        moment = draw(random.Random(derive_seed("chaos", self.seed, number)))
        process = self._process = self._start(said)
        if kill and self._watch.wait_for(moment, sight, lambda: process.poll() is None):
            _kill(process)
        at = time.time()
        killed = process.wait() == -signal.SIGKILL
        if self._stopped:
            raise RuntimeError(f"{self.name} was stopped.")
        if process.returncode and not killed:
            words = sight.words()[-2000:]
            raise RuntimeError(f"{self.name} ended with {process.returncode} in its life {number}:\n{words}")
        time.sleep(ARRIVING_S)
        self._take_stock(asked, Kill(moment, at, at - sight.started) if killed else None, sight)
        return killed

    def _take_stock(self, asked: int, kill: Kill | None, sight: Sight) -> None:
        """Note what a life has asked and left."""
        before = self.lives[-1].left if self.lives else Remains()
        left = remains(self.home, self.name)
        self.lives.append(Life(Counter(self._asked()[asked:]), left))
        if kill is not None:
            kill = replace(kill, phase=phase(sight, kill.at, before, left), rounds=len(left.rounds))
            self.kills.append(kill)
            click.echo(f"{self.name}: kill {len(self.kills)}, {kill.phase}, {kill.seconds:.0f} s", err=True)

    def _asked(self) -> list[str]:
        return [one.call for one in self.judge.log(self.name) if not one.answered]

    def _start(self, said: Path) -> subprocess.Popen[bytes]:
        settings = {
            "seed": self.seed,
            "black_box.endpoint": "api",
            "black_box.base_url": self.judge.url,
            "black_box.price.input": PRICE["input"],
            "black_box.price.output": PRICE["output"],
        }
        assignments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "cli.main", "train", "--profile", PROFILE, "--run", self.name]
        environment = {
            "CYCLEALIGN_HOME": str(self.home),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": "",  # a server that is up would outlive the kill
            "OPENAI_API_KEY": self.name,  # tells the judge who asks
            "OMP_NUM_THREADS": "1",
        }
        with said.open("wb") as output:
            return subprocess.Popen(
                [*command, *assignments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just ended
        return
