"""A wave sampled by a vLLM server beside the white box's own decoding: tokens per second, and whether they agree.

Usage: `python -m benchmarks.vllm_wave URL [DTYPE]` for a server of a model in a folder of this machine, started with
--enable-lora. Sixteen prompts, four responses of exactly 64 tokens each (nothing ends a response), under an adapter
that twelve optimizer steps have changed. Greedy tokens are compared on the same prompts. No part of `make bench`: it
needs a server, and on a CPU it says nothing about GPUs.
"""

import sys
from collections.abc import Sequence
from statistics import median

import httpx2
import torch

from benchmarks.measuring import in_turn, seconds, speedups
from cyclealign.records import Prompt, Response, TrainingExample, Turn
from cyclealign.settings import MethodSettings, SamplingSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.vllm_server import VllmServer
from cyclealign.white_box.white_box import WhiteBox

RESPONSES, TOKENS, REPEATS = 4, 64, 3
FOOD = ("rice", "bread", "soup", "beans", "eggs", "pasta", "potatoes", "fish")
QUESTIONS = ("How do I cook {}, and what goes well with it?", "Tell me a story about a child who liked {}.")
PROMPTS = [
    Prompt.from_turns("helpful-base", "test", [Turn("human", one.format(food))]) for one in QUESTIONS for food in FOOD
]


def main(url: str, dtype: str = "float32") -> None:
    """Print the comparison."""
    white_box = trained(url, dtype)

    def drawn(engine: str, count: int, temperature: float) -> list[list[Response]]:
        by = {"temperature": temperature, "top_p": 0.95, "max_new_tokens": TOKENS, "engine": engine}
        return white_box.sample(PROMPTS, range(len(PROMPTS)), count, SamplingSettings.model_validate(by))

    def timed(engine: str) -> float:
        found: list[list[Response]] = []
        taken = seconds(lambda: found.extend(drawn(engine, RESPONSES, 1.0)))
        assert all(len(one.tokens) == TOKENS for responses in found for one in responses)
        return taken

    print(f"greedy, {dtype}: {agreement(drawn('vllm', 1, 0), drawn('transformers', 1, 0))}")
    white_box.prompt_format.stop_ids, white_box.prompt_format.stop_texts = (), ()
    pairs = in_turn(lambda: timed("vllm"), lambda: timed("transformers"), REPEATS)
    theirs, ours = (len(PROMPTS) * RESPONSES * TOKENS / median(side) for side in zip(*pairs, strict=True))
    spread = sorted(speedups(pairs))
    print(
        f"{len(PROMPTS)} prompts x {RESPONSES} responses x {TOKENS} tokens: vLLM {theirs:.0f} tokens/s, own decoding "
        f"{ours:.0f} tokens/s with {torch.get_num_threads()} threads; ratio {median(spread):.2f} "
        f"({spread[0]:.2f} to {spread[-1]:.2f})"
    )


def trained(url: str, dtype: str) -> WhiteBox:
    """The served model under an adapter that says other things than the model."""
    [base] = [one for one in httpx2.get(f"{url}/models").json()["data"] if not one["parent"]]
    settings = WhiteBoxSettings.model_validate(
        {"model": base["root"], "dtype": dtype, "max_length": 512, "vllm": {"base_url": url}}
    )
    white_box = WhiteBox.load(Recipe(settings, TrainingSettings(learning_rate=5e-4), MethodSettings(), seed=1))
    white_box.server = VllmServer(settings.vllm)
    target = white_box.encode_reply("First of all, wash your hands and put on an apron.", TOKENS).tokens
    for prompt in PROMPTS[:12]:
        white_box.optimize([TrainingExample(prompt, (target,), (0,), 0)])
    return white_box


def agreement(some: Sequence[Sequence[Response]], others: Sequence[Sequence[Response]]) -> str:
    """In how many responses, and in how many of the tokens before the first difference, two engines agree."""
    pairs = [(one.tokens, other.tokens) for [one], [other] in zip(some, others, strict=True)]
    alike = [next((i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), len(pair[0])) for pair in pairs]
    same, total = sum(one == other for one, other in pairs), sum(len(other) for _, other in pairs)
    return f"{same} of {len(pairs)} responses the same, {sum(alike)} of {total} tokens up to the first difference"


if __name__ == "__main__":
    main(*sys.argv[1:])
