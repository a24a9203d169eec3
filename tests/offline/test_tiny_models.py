"""Training and sampling of the tiny models, on a handful of steps."""

import pytest
import torch

from cyclealign.offline.tiny_models import (
    EOS_ID,
    Schedule,
    encode,
    new_model,
    sample,
    train_language_model,
    train_reward_model,
    train_tokenizer,
)
from cyclealign.offline.world import mixed_pairs, reading_matter
from cyclealign.white_box.prompt_format import PromptFormat

MATTER = reading_matter(0, 40)
TOKENIZER = train_tokenizer(f"\n\n{prompt.instruction} {response}" for prompt, response in MATTER)
EXAMPLES = [encode(TOKENIZER, prompt.instruction, response) for prompt, response in MATTER]


def trained() -> tuple[torch.nn.Module, list[float]]:
    model, shares = new_model(0, len(TOKENIZER)), list[float]()
    train_language_model(model, EXAMPLES, Schedule(6e-3, steps=3, batch=4), 0.3, shares.append)
    return model, shares


def test_equal_seeds_train_equal_weights_whatever_the_global_random_state_and_report_every_step() -> None:
    state = torch.get_rng_state()
    one, shares = trained()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    two, _ = trained()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_white_box_reads_dialogues_exactly_as_it_was_trained() -> None:
    prompt, response = MATTER[0]
    form = PromptFormat(TOKENIZER, "auto", None)
    assert form.encode(prompt.turns, 256) == EXAMPLES[0].prompt
    assert form.encode_reply(response, 256).tokens == tuple(EXAMPLES[0].response)


def test_a_spelled_out_end_of_sequence_ends_nothing() -> None:
    tokens = encode(TOKENIZER, "Human: </s>", "Yes.</s> No.")
    assert EOS_ID not in tokens.prompt
    assert tokens.response.index(EOS_ID) == len(tokens.response) - 1


def test_samples_depend_on_the_seed_alone_and_leave_the_number_of_threads() -> None:
    model, prompt, threads = new_model(0, len(TOKENIZER)), EXAMPLES[0].prompt, torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    first = sample(model, prompt, 3, seed=1, max_new_tokens=6)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    torch.manual_seed(99)
    assert sample(model, prompt, 3, seed=1, max_new_tokens=6) == first
    assert sample(model, prompt, 3, seed=2, max_new_tokens=6) != first
    assert all(len(tokens) <= 6 and EOS_ID not in tokens for tokens in first)


def test_a_reward_model_learns_the_pairs_that_it_reads() -> None:
    pairs, schedule = mixed_pairs(1, 4) * 12, Schedule(3e-3, 12, 4, warmup=1)
    model = train_reward_model(new_model(0, len(TOKENIZER)), TOKENIZER, pairs, schedule, lambda _: None)

    def reward(instruction: str, text: str) -> float:
        with torch.no_grad():
            return float(model(input_ids=torch.tensor([encode(TOKENIZER, instruction, text).cut()])).logits[0, 0])

    for pair in pairs[:4]:
        assert reward(pair.prompt.instruction, pair.chosen) > reward(pair.prompt.instruction, pair.rejected)
