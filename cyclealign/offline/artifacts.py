"""Everything the dialogue world needs on disk, built once and reused: data, tiny models, the judge.

A finished folder never changes; its name is a digest of what it was built from. Folders appear under their
name only when they are complete, so a build that was killed leaves nothing that is mistaken for a result.
Builders wait for each other. The two chains of training run side by side in processes of their own.
"""

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from cyclealign.disk import require_writable
from cyclealign.errors import ModelError
from cyclealign.offline.folders import build_once
from cyclealign.offline.settings import JudgeSettings, WorldSettings
from cyclealign.offline.training import CHAINS, EVALUATION, WHITE_BOX, WRITER, Chain, Progress
from cyclealign.offline.world import write_world
from cyclealign.offline.world_judge import fit_world_judge

WORLD_VERSION = 2
"""Raised with every change of the code that changes what is built."""

Process = subprocess.Popen[str]
Heard = queue.Queue[tuple[Chain, str | None]]


@dataclass(frozen=True, slots=True)
class WorldArtifacts:
    """Folders of one built world."""

    data: Path
    """Dialogues in the hub's layout."""
    white_box: Path
    writer: Path
    judge: Path
    """The judge's features and prior; it also needs `writer`."""
    evaluation: Path
    """The evaluation's reward model."""


def build_world_artifacts(
    home: Path, settings: WorldSettings, judge: JudgeSettings, progress: Progress
) -> WorldArtifacts:
    """The world of these settings, built where it does not exist yet (minutes), else found (milliseconds).

    Args:
        home: Folder of everything the application keeps; the world goes to `world/` in it.
        settings: What to build.
        judge: Only `prior_pairs` matters here.
        progress: Told what is going on and the share that is done, 0 to 1.

    Raises:
        ModelError: a training process failed.
        StorageFull: the disk is full or read-only.
    """
    content = json.dumps([WORLD_VERSION, settings.model_dump(mode="json")], sort_keys=True)
    world = home / "world" / hashlib.sha256(content.encode()).hexdigest()[:16]
    build_once(world, lambda folder: _build_world(folder, settings, progress))
    fitted = world.with_name(f"{world.name}-judge-{judge.prior_pairs}")
    build_once(fitted, lambda folder: fit_world_judge(folder, world / WRITER, settings, judge))
    return WorldArtifacts(world / "data", world / WHITE_BOX, world / WRITER, fitted, world / EVALUATION)


def _build_world(folder: Path, settings: WorldSettings, progress: Progress) -> None:
    heard: Heard = queue.Queue()
    chains = {chain: _start(chain, folder, settings) for chain in CHAINS}
    try:
        for chain, process in chains.items():
            threading.Thread(target=_listen, args=(chain, process, heard), daemon=True).start()
        progress("writing the dialogue world", 0.0)
        write_world(folder / "data", settings)
        failed = _follow(chains, heard, progress)
    finally:
        for process in chains.values():
            process.kill()
            process.wait()
    if failed:
        require_writable(folder)  # on a full disk there are no last words either
        raise ModelError(
            f"Training the world's models ({failed}) ended with exit code {chains[failed].returncode}, not 0."
            f" Its last words: {_last_words(folder, failed)} Check memory and disk, then start again."
        )
    for chain in chains:
        _errors(folder, chain).unlink()


def _start(chain: Chain, folder: Path, settings: WorldSettings) -> Process:
    command = [sys.executable, "-m", "cyclealign.offline.training"]
    with _errors(folder, chain).open("w") as errors:
        return subprocess.Popen(
            [*command, chain, str(folder), settings.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )


def _listen(chain: Chain, process: Process, heard: Heard) -> None:
    """Passes on every line of a chain, and None at its end."""
    if process.stdout is not None:
        with process.stdout as lines:
            for line in lines:
                heard.put((chain, line.strip()))
    heard.put((chain, None))


def _follow(chains: dict[Chain, Process], heard: Heard, progress: Progress) -> Chain | None:
    """Reports the chains' progress until all have ended well (None) or one has failed (that one)."""
    shares, running = dict.fromkeys(chains, 0.0), set(chains)
    while running:
        chain, line = heard.get()
        if line is not None:
            share, _, message = line.partition(" ")
            shares[chain] = float(share)
            progress(message, sum(shares.values()) / len(shares))
        elif chains[chain].wait() != 0:
            return chain
        else:
            running.remove(chain)
    return None


def _errors(folder: Path, chain: Chain) -> Path:
    return folder / f"{chain}.errors.txt"


def _last_words(folder: Path, chain: Chain) -> str:
    lines = _errors(folder, chain).read_text().strip().splitlines()
    return " ".join(lines[-3:])[-300:] if lines else "none."
