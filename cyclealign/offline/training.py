"""Trains the dialogue world's tiny models, in two chains that share nothing and so run side by side.

`cycle`: white box, then the writer that goes on from it. `evaluation`: a language model of its own
initialisation and text, then the reward model. `artifacts` runs each chain as `python -m
cyclealign.offline.training` and reads its progress from standard output, one line `<share of the work>
<message>` at a time.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from cyclealign.offline.settings import WorldSettings
from cyclealign.offline.tiny_models import (
    Encoded,
    Report,
    Schedule,
    encode,
    new_model,
    plain_text,
    train_language_model,
    train_tokenizer,
)
from cyclealign.offline.world import mixed_pairs, reading_matter
from cyclealign.offline.world_rewards import train_reward_model
from cyclealign.records import Prompt
from cyclealign.seeds import derive_seed
from cyclealign.white_box.loading import quiet_transformers

Chain = Literal["cycle", "evaluation"]
Progress = Callable[[str, float], None]
"""Told what is going on and the share of the work that is done, 0 to 1."""
WHITE_BOX, WRITER, EVALUATION = "white-box", "writer", "evaluation"
TOKENIZER_TEXTS = 6000
PROMPT_WEIGHT = 0.3


def train_cycle(folder: Path, settings: WorldSettings, progress: Progress) -> None:
    """Trains the white box on the mixed diet and, from there, the writer on a better one; saves both."""
    schedule = Schedule(6e-3, settings.pretraining_steps)
    matter = reading_matter(derive_seed("white box text", settings.seed), schedule.examples)
    tokenizer = train_tokenizer(map(_text, matter[:TOKENIZER_TEXTS]))
    model = new_model(derive_seed("white box", settings.seed), len(tokenizer))
    report = _part(progress, "training the white box", 0.0, 0.8)
    train_language_model(model, _encoded(tokenizer, matter), schedule, PROMPT_WEIGHT, report)
    _save(folder / WHITE_BOX, model, tokenizer)
    schedule = Schedule(3e-3, max(1, settings.pretraining_steps // 4))
    seed = derive_seed("writer text", settings.seed)
    matter = reading_matter(seed, schedule.examples, settings.writer_good_share)
    report = _part(progress, "training the writer", 0.8, 1.0)
    train_language_model(model, _encoded(tokenizer, matter), schedule, PROMPT_WEIGHT, report)
    _save(folder / WRITER, model, tokenizer)


def train_evaluation(folder: Path, settings: WorldSettings, progress: Progress) -> None:
    """Trains the evaluation's reward model from a language model of its own; saves the reward model."""
    schedule = Schedule(6e-3, max(1, settings.pretraining_steps // 2))
    matter = reading_matter(derive_seed("evaluation text", settings.seed), schedule.examples)
    tokenizer = train_tokenizer(map(_text, matter[:TOKENIZER_TEXTS]))
    model = new_model(derive_seed("evaluation", settings.seed), len(tokenizer))
    report = _part(progress, "pretraining the reward model", 0.0, 0.5)
    train_language_model(model, _encoded(tokenizer, matter), schedule, PROMPT_WEIGHT, report)
    schedule = Schedule(1e-3, max(1, settings.pretraining_steps // 4))
    pairs = mixed_pairs(derive_seed("evaluation pairs", settings.seed), schedule.examples)
    report = _part(progress, "training the reward model", 0.5, 1.0)
    rewards = train_reward_model(model, tokenizer, pairs, schedule, report)
    _save(folder / EVALUATION, rewards, tokenizer)


CHAINS: dict[Chain, Callable[[Path, WorldSettings, Progress], None]] = {
    "cycle": train_cycle,
    "evaluation": train_evaluation,
}


def _part(progress: Progress, message: str, start: float, end: float) -> Report:
    """Reports a part of the work as a part of the whole."""
    return lambda share: progress(message, start + (end - start) * share)


def _text(example: tuple[Prompt, str]) -> str:
    prompt, response = example
    return f"{plain_text(prompt)} {response}"


def _encoded(tokenizer: Any, matter: list[tuple[Prompt, str]]) -> list[Encoded]:
    return [encode(tokenizer, plain_text(prompt), response) for prompt, response in matter]


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def main(arguments: list[str]) -> None:
    """Runs a chain; the arguments are its name, the folder to write to, and the settings as JSON."""
    torch.set_num_threads(1)  # two chains at a time: more threads would only fight for the cores
    chain, folder, settings = arguments
    train = next(train for name, train in CHAINS.items() if name == chain)

    def tell(message: str, share: float) -> None:
        # Once the parent is gone this raises BrokenPipeError, and an orphan ends at its next step.
        sys.stdout.write(f"{share:.4f} {message}\n")
        sys.stdout.flush()

    train(Path(folder), WorldSettings.model_validate_json(settings), tell)


if __name__ == "__main__":
    main(sys.argv[1:])
