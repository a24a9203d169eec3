"""A white box of any size with random weights, and prompts for it: to measure speed on, where text does not matter.

The tokenizer knows one word per token (`w17`), so that a prompt has as many tokens as words and every response that is
sampled is a text of its own.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.ranking_steps import Sizes
from cyclealign.records import Prompt, Turn
from cyclealign.seeds import derive_seed

SPECIAL = ("<pad>", "</s>", "<unk>")
NAMES = 2
"""Words of a prompt in the plain format besides those that were said."""


def save(folder: Path, sizes: Sizes) -> Path:
    """Model and tokenizer in transformers' format; returns the folder."""
    model = sizes.model().eval()
    model.config.eos_token_id = model.generation_config.eos_token_id = SPECIAL.index("</s>")
    model.save_pretrained(folder)
    tokenizer(sizes.vocabulary).save_pretrained(folder)
    return folder


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token per word."""
    words = [*SPECIAL, *(f"w{number}" for number in range(vocabulary - len(SPECIAL)))]
    known = {word: number for number, word in enumerate(words)}
    pad, eos, unknown = SPECIAL
    by_word = Tokenizer(models.WordLevel(known, unk_token=unknown))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=by_word, pad_token=pad, eos_token=eos, unk_token=unknown)


def prompts(sizes: Sizes, count: int, seed: int = 0) -> list[Prompt]:
    """So many prompts of `sizes.prompt` tokens each."""
    return [
        Prompt.from_turns(
            "helpful-base", "train", [Turn("human", words(sizes, sizes.prompt - NAMES, seed, number))]
        )
        for number in range(count)
    ]


def words(sizes: Sizes, count: int, *place: int | str) -> str:
    """So many words, others in every place."""
    generator = torch.Generator().manual_seed(derive_seed(0, "words", *place))
    drawn = torch.randint(sizes.vocabulary - len(SPECIAL), (count,), generator=generator)
    return " ".join(f"w{number}" for number in drawn.tolist())
