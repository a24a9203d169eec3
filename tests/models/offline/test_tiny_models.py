"""Training and sampling of the tiny models, on a handful of steps."""

import pytest
import torch

from cyclealign.offline.tiny_models import (
    EOS_ID,
    Encoded,
    Schedule,
    encode,
    new_model,
    plain_text,
    sample,
    train_language_model,
    train_tokenizer,
)
from cyclealign.offline.world import mixed_pairs, reading_matter
from cyclealign.offline.world_rewards import train_reward_model
from cyclealign.white_box.prompt_format import PromptFormat

SCHEDULE = Schedule(6e-3, steps=3, batch=4)
MATTER = reading_matter(0, 40)
TOKENIZER = train_tokenizer(f"{plain_text(prompt)} {response}" for prompt, response in MATTER)


def examples() -> list[Encoded]:
    return [encode(TOKENIZER, plain_text(prompt), response) for prompt, response in MATTER]


def trained() -> tuple[torch.nn.Module, list[float]]:
    model, shares = new_model(0, len(TOKENIZER)), list[float]()
    train_language_model(model, examples(), SCHEDULE, 0.3, shares.append)
    return model, shares


def test_equal_seeds_train_equal_weights() -> None:
    torch.manual_seed(1)
    one, _ = trained()
    torch.manual_seed(2)
    two, _ = trained()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_new_model_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    new_model(0, 300)
    assert torch.equal(torch.rand(3), expected)


def test_training_reports_every_step() -> None:
    assert trained()[1] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_white_box_reads_dialogues_exactly_as_it_was_trained() -> None:
    prompt, response = MATTER[0]
    ours, theirs = encode(TOKENIZER, plain_text(prompt), response), PromptFormat(TOKENIZER, "auto", None)
    assert theirs.encode(prompt.turns, 256) == ours.prompt
    assert theirs.encode_reply(response, 256).tokens == tuple(ours.response)


def test_a_spelled_out_end_of_sequence_ends_nothing() -> None:
    tokens = encode(TOKENIZER, "\n\nHuman: </s>", "Yes.</s> No.")
    assert EOS_ID not in tokens.prompt
    assert tokens.response.index(EOS_ID) == len(tokens.response) - 1


def test_sampling_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    sample(new_model(0, len(TOKENIZER)), examples()[0].prompt, 2, seed=1, max_new_tokens=2)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)


def test_samples_depend_on_the_seed_alone() -> None:
    model, prompt = new_model(0, len(TOKENIZER)), examples()[0].prompt
    first = sample(model, prompt, 3, seed=1, max_new_tokens=6)
    torch.manual_seed(99)
    assert sample(model, prompt, 3, seed=1, max_new_tokens=6) == first
    assert sample(model, prompt, 3, seed=2, max_new_tokens=6) != first
    assert all(len(tokens) <= 6 and EOS_ID not in tokens for tokens in first)


def test_a_reward_model_learns_the_pairs_it_is_shown() -> None:
    pairs, shares = mixed_pairs(1, 4) * 12, list[float]()
    model = train_reward_model(
        new_model(0, len(TOKENIZER)), TOKENIZER, pairs, Schedule(3e-3, 12, 4, warmup=1), shares.append
    )
    rewards = [
        [_reward(model, plain_text(pair.prompt), text) for text in (pair.chosen, pair.rejected)] for pair in pairs[:4]
    ]
    assert all(chosen > rejected for chosen, rejected in rewards)
    assert shares[-1] == 1.0


def _reward(model: torch.nn.Module, dialogue: str, response: str) -> float:
    tokens = encode(TOKENIZER, dialogue, response)
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([tokens.prompt + tokens.response])).logits[0, 0])
