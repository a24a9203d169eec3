"""Everything the dialogue world needs on disk, built once and reused: data, tiny models, the judge.

The name of a finished folder is a digest of what it was built from. Two chains that share nothing train the tiny
models side by side. `cycle`: white box, then the writer that goes on from it. `evaluation`: a language model of its
own initialisation and text, then the reward model. A chain is a process, `python -m cyclealign.offline.artifacts`; it
tells its progress on standard output, which both share, in lines `<chain> <share of the work> <message>`.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cyclealign.disk import build_once, require_writable
from cyclealign.errors import ModelError
from cyclealign.offline.tiny_models import (
    Encoded,
    Report,
    Schedule,
    encode,
    new_model,
    train_language_model,
    train_reward_model,
    train_tokenizer,
)
from cyclealign.offline.world import mixed_pairs, reading_matter, write_world
from cyclealign.offline.world_judge import fit_world_judge
from cyclealign.records import Prompt
from cyclealign.seeds import derive_seed
from cyclealign.settings import JudgeSettings, WorldSettings
from cyclealign.white_box.loading import quiet_transformers

WORLD_VERSION = 2
"""Raised with every change of the code that changes what is built."""
WHITE_BOX, WRITER, EVALUATION = "white-box", "writer", "evaluation"
ERRORS = "{}.errors.txt"
TOKENIZER_TEXTS = 6000
PROMPT_WEIGHT = 0.3

Progress = Callable[[str, float], None]
"""Called with what is going on and the share of the work that is done, 0 to 1."""
Process = subprocess.Popen[str]


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
    """The world of these settings in the application's home, built in minutes where it does not exist yet.

    Of the judge's settings only `prior_pairs` matters here.

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
    read, write = os.pipe()
    chains = {chain: _start(chain, folder, settings, write) for chain in CHAINS}
    os.close(write)
    try:
        with os.fdopen(read) as heard:
            progress("writing the dialogue world", 0.0)
            write_world(folder / "data", settings)
            failed = _follow(chains, heard, progress)
    finally:
        for process in chains.values():
            process.kill()
            process.wait()
    if failed:
        require_writable(folder)  # on a full disk there are no last words either
        last_words = " ".join((folder / ERRORS.format(failed)).read_text().strip().splitlines()[-3:])[-300:]
        raise ModelError(
            f"Training the world's models ({failed}) ended with exit code {chains[failed].returncode}, not 0."
            f" Its last words: {last_words or 'none.'} Check memory and disk, then start again."
        )
    for chain in chains:
        (folder / ERRORS.format(chain)).unlink()


def _start(chain: str, folder: Path, settings: WorldSettings, pipe: int) -> Process:
    command = [sys.executable, "-m", "cyclealign.offline.artifacts", chain, str(folder), settings.model_dump_json()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (folder / ERRORS.format(chain)).open("w") as errors:
        return subprocess.Popen(command, stdout=pipe, stderr=errors, text=True, env=environment)


def _follow(chains: dict[str, Process], heard: Iterable[str], progress: Progress) -> str | None:
    """Reports the chains' progress until all have ended well (None) or one has failed (that one)."""
    shares = dict.fromkeys(chains, 0.0)
    for line in heard:
        chain, share, message = line.rstrip().split(" ", 2)
        shares[chain] = float(share)
        progress(message, sum(shares.values()) / len(shares))
        if any(process.poll() for process in chains.values()):
            break  # the others would only train on in vain
    else:
        for process in chains.values():
            process.wait()
    return next((chain for chain, process in chains.items() if process.returncode), None)


def train_cycle(folder: Path, settings: WorldSettings, progress: Progress) -> None:
    """Trains and saves the white box on the mixed diet and, from there, the writer on a better one."""
    schedule = Schedule(6e-3, settings.pretraining_steps)
    matter = reading_matter(derive_seed("white box text", settings.seed), schedule.examples)
    report = _part(progress, "training the white box", 0.0, 0.8)
    model, tokenizer = _pretrained(derive_seed("white box", settings.seed), matter, schedule, report)
    _save(folder / WHITE_BOX, model, tokenizer)
    schedule = Schedule(3e-3, max(1, settings.pretraining_steps // 4))
    seed = derive_seed("writer text", settings.seed)
    matter = reading_matter(seed, schedule.examples, settings.writer_good_share)
    report = _part(progress, "training the writer", 0.8, 1.0)
    train_language_model(model, _encoded(tokenizer, matter), schedule, PROMPT_WEIGHT, report)
    _save(folder / WRITER, model, tokenizer)


def train_evaluation(folder: Path, settings: WorldSettings, progress: Progress) -> None:
    """Trains and saves the evaluation's reward model from a language model of its own."""
    schedule = Schedule(6e-3, max(1, settings.pretraining_steps // 2))
    matter = reading_matter(derive_seed("evaluation text", settings.seed), schedule.examples)
    report = _part(progress, "pretraining the reward model", 0.0, 0.5)
    model, tokenizer = _pretrained(derive_seed("evaluation", settings.seed), matter, schedule, report)
    schedule = Schedule(1e-3, max(1, settings.pretraining_steps // 4))
    pairs = mixed_pairs(derive_seed("evaluation pairs", settings.seed), schedule.examples)
    report = _part(progress, "training the reward model", 0.5, 1.0)
    _save(folder / EVALUATION, train_reward_model(model, tokenizer, pairs, schedule, report), tokenizer)


def _pretrained(
    seed: int, matter: list[tuple[Prompt, str]], schedule: Schedule, report: Report
) -> tuple[torch.nn.Module, Any]:
    """A new language model that has read this text, and its tokenizer."""
    texts = matter[:TOKENIZER_TEXTS]
    tokenizer = train_tokenizer(f"\n\n{prompt.instruction} {response}" for prompt, response in texts)
    model = new_model(seed, len(tokenizer))
    train_language_model(model, _encoded(tokenizer, matter), schedule, PROMPT_WEIGHT, report)
    return model, tokenizer


def _encoded(tokenizer: Any, matter: list[tuple[Prompt, str]]) -> list[Encoded]:
    return [encode(tokenizer, prompt.instruction, response) for prompt, response in matter]


def _part(progress: Progress, message: str, start: float, end: float) -> Report:
    """Reports a part of the work as a part of the whole."""
    return lambda share: progress(message, start + (end - start) * share)


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


CHAINS: dict[str, Callable[[Path, WorldSettings, Progress], None]] = {
    "cycle": train_cycle,
    "evaluation": train_evaluation,
}


def main(chain: str, folder: str, settings: str) -> None:
    """Trains one chain's models into a folder; the settings are JSON."""
    torch.set_num_threads(1)  # two chains at a time: more threads would only fight for the cores

    def tell(message: str, share: float) -> None:
        # Once the parent is gone this raises BrokenPipeError, and an orphan ends at its next step.
        sys.stdout.write(f"{chain} {share:.4f} {message}\n")
        sys.stdout.flush()

    CHAINS[chain](Path(folder), WorldSettings.model_validate_json(settings), tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
