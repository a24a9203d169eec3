"""Tiny white boxes for the tests of this folder: prompts, settings, a box that trains, examples that it learns from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclealign.records import Prompt, TrainingExample, Turn
from cyclealign.settings import MethodSettings, SamplingSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.white_box import WhiteBox

QUESTIONS = ("How do I cook rice?", "Tell me about the weather, please, in as few words as you can.", "Why?")
PROMPTS = [Prompt.from_turns("helpful-base", "train", [Turn("human", text)]) for text in QUESTIONS]
SAMPLING = SamplingSettings(max_new_tokens=16)
GREEDY = SamplingSettings(temperature=0, max_new_tokens=16)
TRAINING = TrainingSettings(learning_rate=1e-2)


def settings_for(model: Path | str, **changes: Any) -> WhiteBoxSettings:
    fixed = {"model": str(model), "max_length": 128, "sampling": SAMPLING, "device": "cpu"}
    return WhiteBoxSettings.model_validate({**fixed, **changes})


def load(model: Path | str, training: TrainingSettings = TRAINING, *, seed: int = 7, **changes: Any) -> WhiteBox:
    """A white box that trains; changes of its settings, and `method` for those of the method."""
    method = changes.pop("method", MethodSettings())
    return WhiteBox.load(Recipe(settings_for(model, **changes), training, method, seed))


def examples_of(white_box: WhiteBox, step: int = 0) -> list[TrainingExample]:
    """Three sampled responses and a rewrite per prompt, the rewrite preferred and the target."""
    sampled = white_box.sample(PROMPTS, [step * 10 + index for index in range(3)], 3, SAMPLING)
    rewrite = white_box.encode_reply("Rinse it, add water.", 16).tokens
    return [
        TrainingExample(prompt, (*(response.tokens for response in responses), rewrite), (3, 1, 0, 2), 3)
        for prompt, responses in zip(PROMPTS, sampled, strict=True)
    ]


def scored(examples: Iterable[TrainingExample]) -> list[tuple[Prompt, tuple[tuple[int, ...], ...]]]:
    """The prompts and responses of examples, as `WhiteBox.log_probabilities` takes them."""
    return [(example.prompt, example.responses) for example in examples]


def train(white_box: WhiteBox, steps: range) -> None:
    for step in steps:
        white_box.optimize(examples_of(white_box, step), progress=step / 4)
