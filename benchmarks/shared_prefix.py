"""Sampling several responses to one prompt against `generate(num_return_sequences=…)`.

`generate` copies the prompt before it reads it; ours reads it once. Neither stops early, so both sides give the same
number of tokens; decoded greedily, as the tests do, they are the same tokens.
"""

from typing import Any

import torch

from benchmarks.measuring import seconds, side_by_side
from benchmarks.ranking_steps import Sizes, where
from benchmarks.rows import Row, at_least
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.white_box.sampling import Ends, decode, draw_uniforms

REPEATS = 5
NEW_TOKENS = 64
NEVER = Ends((), lambda _: False)


def rows(repeats: int = REPEATS) -> list[Row]:
    """How many times faster l = 4 responses of 64 tokens are sampled from a prompt of 256."""
    sizes = Sizes()
    model, (prompt, _) = sizes.model().eval(), sizes.tokens()

    def ours() -> float:
        return seconds(lambda: sample(model, prompt, sizes.responses, NEW_TOKENS))

    def theirs() -> float:
        return seconds(lambda: generate(model, prompt, sizes.responses, NEW_TOKENS))

    ours(), theirs()  # warm
    pairs = side_by_side(ours, theirs, repeats)
    note = f"{sizes.prompt} + {NEW_TOKENS} tokens, {sizes.layers} layers · {sizes.width}, {where(model)}"
    ratios = tuple(peer / own for own, peer in pairs)
    return [Row("sampling 4 responses against generate()", at_least(1.3), ratios, note=note)]


def sample(model: Any, prompt: list[int], responses: int, tokens: int, temperature: float = 1.0) -> list[list[int]]:
    """As the white box samples."""
    sampling = SamplingSettings(temperature=temperature, top_p=1.0, max_new_tokens=tokens)
    return decode(model, [prompt], draw_uniforms([0], responses, tokens), sampling, NEVER)


@torch.no_grad()
def generate(model: Any, prompt: list[int], responses: int, tokens: int, temperature: float = 1.0) -> list[list[int]]:
    """As transformers samples."""
    ids = torch.tensor([prompt], device=next(model.parameters()).device)
    how = {"do_sample": True, "temperature": temperature, "top_k": 0, "num_return_sequences": responses}
    if not temperature:
        how = {"do_sample": False}
        ids = ids.repeat(responses, 1)
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, eos_token_id=None, pad_token_id=0, **how
    )
    return [row[len(prompt) :] for row in found.tolist()]
