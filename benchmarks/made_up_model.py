"""A white box of any size with random weights, and prompts for it: to measure speed on, where text does not matter.

The tokenizer knows one word per token (`w17`), so that a prompt has as many tokens as words and every response that is
sampled is a text of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.ranking_steps import Sizes
from cyclealign.records import Prompt, Turn
from cyclealign.seeds import derive_seed

SPECIAL = ("<pad>", "</s>", "<unk>")
NAMES = 2
"""Words of a prompt in the plain format besides those that were said."""


def save(folder: Path, sizes: Sizes) -> Path:
    """A model of these sizes and its tokenizer in transformers' format; returns the folder."""
    return _save(folder, sizes.model())


def save_shape(folder: Path, shape: Mapping[str, Any]) -> Path:
    """The same for a Llama of this configuration."""
    return _save(folder, of_shape(shape))


def of_shape(shape: Mapping[str, Any], device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A Llama of this configuration with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        return _with_end(AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=dtype))


def _with_end(model: Any) -> Any:
    model.config.eos_token_id = model.generation_config.eos_token_id = SPECIAL.index("</s>")
    return model


def _save(folder: Path, model: Any) -> Path:
    _with_end(model).eval().save_pretrained(folder)
    tokenizer(model.config.vocab_size).save_pretrained(folder)
    return folder


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token per word."""
    pad, eos, unknown = SPECIAL
    words = [*SPECIAL, *(f"w{number}" for number in range(vocabulary - len(SPECIAL)))]
    known = {word: number for number, word in enumerate(words)}
    by_word = Tokenizer(models.WordLevel(known, unk_token=unknown))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=by_word, pad_token=pad, eos_token=eos, unk_token=unknown)


def prompts(sizes: Sizes, count: int) -> list[Prompt]:
    """So many prompts of `sizes.prompt` tokens each."""
    return [prompt_of(words(sizes.vocabulary, sizes.prompt - NAMES, number)) for number in range(count)]


def prompt_of(text: str) -> Prompt:
    """The prompt in which this was said."""
    return Prompt.from_turns("helpful-base", "train", [Turn("human", text)])


def words(vocabulary: int, count: int, *place: int | str) -> str:
    """So many words of a vocabulary of that size, others in every place."""
    return " ".join(f"w{token - len(SPECIAL)}" for token in tokens(vocabulary, count, *place))


def tokens(vocabulary: int, count: int, *place: int | str) -> list[int]:
    """So many token ids, none of them special here, others in every place."""
    generator = torch.Generator().manual_seed(derive_seed(0, "made up", *place))
    return torch.randint(len(SPECIAL), vocabulary, (count,), generator=generator).tolist()
