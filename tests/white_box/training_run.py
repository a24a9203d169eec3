"""A short training run as a program: alone or under a launcher, for the tests of engines and ranks.

Usage: `python training_run.py MODEL_FOLDER OUTPUT.json ENGINE...` with engines `torch`, `zero-2`, `zero-3`;
`-nf4` behind one of them quantises the model, `-bf16` loads it in bfloat16.
Rank 0 writes, per engine: losses, gradient norms, sampled tokens, log-probabilities, and digests of the
weights of an uninterrupted run and of one that went on from a checkpoint in the middle.
"""

import json
import sys
from pathlib import Path
from typing import Any

import psutil

from cyclealign.records import Prompt, TrainingExample, Turn
from cyclealign.settings import MethodSettings, SamplingSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.white_box import WhiteBox

SAMPLING = SamplingSettings(max_new_tokens=12)
# Five, so that two ranks get different numbers of them; of lengths that need several passes.
QUESTIONS = ["Why?", "How do I cook rice?", "Who are you? " * 6, "Tell me about the weather.", "What now? " * 9]
PROMPTS = [Prompt.from_turns("helpful-base", "train", [Turn("human", text)]) for text in QUESTIONS]
STEPS = 4


def load(model: Path, engine: str) -> WhiteBox:
    zero = engine.startswith("zero")
    training = TrainingSettings(
        learning_rate=1e-2,
        warmup_steps=2,
        engine="deepspeed" if zero else "torch",
        zero_stage=3 if engine.startswith("zero-3") else 2,
    )
    settings = WhiteBoxSettings(
        model=str(model),
        max_length=160,
        sampling=SAMPLING,
        device="cpu",
        dtype="bfloat16" if engine.endswith("-bf16") else "float32",
        quantization="nf4" if engine.endswith("-nf4") else "none",
    )
    return WhiteBox.load(Recipe(settings, training, MethodSettings(), seed=3))


def examples_of(white_box: WhiteBox) -> list[TrainingExample]:
    sampled = white_box.sample(PROMPTS, range(5), 3, SAMPLING)
    rewrite = white_box.encode_reply("Rinse it, add water.", 12).tokens
    return [
        TrainingExample(prompt, (*(response.tokens for response in responses), rewrite), (3, 1, 0, 2), 3)
        for prompt, responses in zip(PROMPTS, sampled, strict=True)
    ]


def run(model: Path, engine: str, checkpoint: Path) -> dict[str, Any]:
    white_box = load(model, engine)
    examples = examples_of(white_box)
    first = white_box.log_probabilities([(example.prompt, example.responses) for example in examples])
    reports = []
    for step in range(STEPS):
        if step == 2:
            white_box.save_checkpoint(checkpoint)
        reports.append(white_box.optimize(examples))
    resumed = load(model, engine)
    resumed.load_checkpoint(checkpoint)
    for _ in range(2, STEPS):
        resumed.optimize(examples)
    return {
        "tokens": [example.responses for example in examples],
        "log_probabilities": [[value.total for value in row] for row in first],
        "losses": [report.loss for report in reports],
        "rank_losses": [report.rank_losses for report in reports],
        "gradient_norms": [report.gradient_norm for report in reports],
        "weights": white_box.weights_sha256(),
        "resumed_weights": resumed.weights_sha256(),
        "rank": white_box._trained_engine().rank,
        "ranks": white_box._trained_engine().ranks,
        "listens_on": sorted(listening_addresses()),
    }


def listening_addresses() -> set[str]:
    """Where this process takes connections."""
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


def main() -> None:
    model, output, *engines = sys.argv[1:]
    found = {engine: run(Path(model), engine, Path(output).with_suffix(f".{engine}")) for engine in engines}
    if all(result["rank"] == 0 for result in found.values()):
        Path(output).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
