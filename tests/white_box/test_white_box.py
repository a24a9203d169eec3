"""The white box as a whole: sampling, scoring, one optimizer step, checkpoints, divergence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from cyclealign.errors import ModelError, TrainingDiverged
from cyclealign.method.objectives import pro_loss
from cyclealign.records import Prompt, TrainingExample, Turn
from cyclealign.settings import LoraSettings, MethodSettings, TrainingSettings
from cyclealign.white_box.loading import quiet_transformers
from cyclealign.white_box.training import learning_rate
from cyclealign.white_box.weights import adapter_parameters
from cyclealign.white_box.white_box import WhiteBox
from tests.white_box.boxes import GREEDY, PROMPTS, SAMPLING, TRAINING, examples_of, load, scored, settings_for, train


def test_sampling_gives_every_prompt_its_responses_and_changes_no_bit_of_the_weights(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    train(white_box, range(1))
    before = {name: tensor.clone() for name, tensor in white_box.model.state_dict().items()}
    sampled = white_box.sample(PROMPTS, [1, 2, 3], 4, SAMPLING)
    assert [len(responses) for responses in sampled] == [4, 4, 4]
    assert all(1 <= len(response.tokens) <= 16 for responses in sampled for response in responses)
    after = white_box.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_sampling_uses_the_trained_adapter_merged_or_not(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    untrained = white_box.sample(PROMPTS, [1, 2, 3], 3, SAMPLING)
    train(white_box, range(3))
    assert white_box.sample(PROMPTS, [1, 2, 3], 3, SAMPLING) != untrained
    merged = white_box.sample(PROMPTS, [0, 0, 0], 1, GREEDY)
    white_box._merge = False
    assert white_box.sample(PROMPTS, [0, 0, 0], 1, GREEDY) == merged


def test_log_probabilities_come_in_order_whatever_the_batches(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    asked = scored(examples_of(white_box))
    together = white_box.log_probabilities([*asked, (PROMPTS[0], [])])
    assert together[3] == []
    for (prompt, responses), found in zip(asked, together, strict=False):
        alone = [white_box.log_probabilities([(prompt, [response])])[0][0] for response in responses]
        assert [value.tokens for value in found] == [len(response) for response in responses]
        assert [value.total for value in found] == pytest.approx([value.total for value in alone], rel=1e-5)


def test_prompts_are_cut_to_leave_room_for_the_responses(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    long = Prompt.from_turns("helpful-base", "train", [Turn("human", "rice " * 300)])
    assert len(white_box.encode_prompt(long, 16)) == 112
    assert white_box.log_probabilities([(long, [(5,) * 100])])[0][0].tokens == 100
    with pytest.raises(ValueError, match="128 tokens beside the prompt"):
        white_box.encode_prompt(long, 128)


def test_the_loss_is_the_mean_over_prompts_of_rank_loss_and_weighted_sft_loss(tiny_llama: Path) -> None:
    white_box = load(tiny_llama, method=MethodSettings(objective="pro", sft_weight=2.5))
    examples = examples_of(white_box)
    before = white_box.log_probabilities(scored(examples))
    report = white_box.optimize(examples)
    ranks = [float(pro_loss(torch.tensor([row[index].mean for index in (3, 1, 0, 2)]))) for row in before]
    sfts = [-row[3].mean for row in before]
    assert report.rank_losses == pytest.approx(ranks, rel=1e-5)
    assert report.sft_losses == pytest.approx(sfts, rel=1e-5)
    assert report.loss == pytest.approx(sum(ranks) / 3 + 2.5 * sum(sfts) / 3, rel=1e-5)
    assert white_box.optimizer_steps == 1
    after = white_box.log_probabilities(scored(examples))
    assert all(new[3].mean > old[3].mean for new, old in zip(after, before, strict=True))


def test_an_example_with_nothing_to_prefer_and_no_target_adds_nothing(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    example = examples_of(white_box)[0]
    report = white_box.optimize([example, TrainingExample(PROMPTS[2], example.responses, (1,), None)])
    assert (report.rank_losses[1], report.sft_losses[1]) == (0.0, 0.0)
    assert report.loss == pytest.approx((report.rank_losses[0] + 4 * report.sft_losses[0]) / 2)


def test_gradients_are_those_of_all_examples_at_once_however_they_are_batched(tiny_llama: Path) -> None:
    white_box = load(tiny_llama)
    examples = examples_of(white_box)
    many = white_box.optimize(examples * 8)  # more than one pass
    assert many.gradient_norm == pytest.approx(load(tiny_llama).optimize(examples).gradient_norm, rel=1e-4)


@pytest.mark.parametrize("wrong", [[], [TrainingExample(PROMPTS[0], (), (), None)]], ids=["none", "no-responses"])
def test_a_step_without_anything_to_compute_is_refused(tiny_llama: Path, wrong: list[TrainingExample]) -> None:
    with pytest.raises(ValueError, match="needs examples"):
        load(tiny_llama).optimize(wrong)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("at", [0, 2])
def test_a_checkpoint_continues_bit_for_bit(tiny_llama: Path, tmp_path: Path, at: int, dropout: float) -> None:
    training = TrainingSettings(learning_rate=1e-2, warmup_steps=2, decay="linear")
    straight, interrupted, resumed = (load(tiny_llama, training, lora=LoraSettings(dropout=dropout)) for _ in "123")
    train(straight, range(3))
    torch.manual_seed(99)
    train(interrupted, range(at))
    interrupted.save_checkpoint(tmp_path / "checkpoint")
    train(resumed, range(1))  # overwritten by the checkpoint
    resumed.load_checkpoint(tmp_path / "checkpoint")
    assert resumed.optimizer_steps == at
    train(resumed, range(at, 3))
    assert resumed.weights_sha256() == straight.weights_sha256()


def test_a_checkpoint_of_another_shape_or_a_broken_one_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    white_box = load(tiny_llama)
    white_box.save_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="does not fit this model"):
        load(tiny_llama, lora=LoraSettings(rank=2)).load_checkpoint(tmp_path)
    (tmp_path / "optimizer.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="optimizer's state"):
        white_box.load_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="Cannot read the adapter"):
        white_box.load_checkpoint(tmp_path / "nowhere")


def fill_with_nan(white_box: WhiteBox) -> None:
    next(iter(adapter_parameters(white_box.model).values())).data.fill_(torch.nan)


def make_gradients_infinite(white_box: WhiteBox) -> None:
    first = next(iter(adapter_parameters(white_box.model).values()))
    first.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("max_loss", "spoil", "words"),
    [
        (0.5, lambda _: None, PROMPTS[1].prompt_id),
        (1e9, fill_with_nan, "not finite"),
        (1e9, make_gradients_infinite, "gradient is not finite"),
    ],
    ids=["loss above the limit", "loss no number", "gradient infinite"],
)
def test_a_divergence_stops_before_the_weights_change(
    tiny_llama: Path, max_loss: float, spoil: Callable[[WhiteBox], None], words: str
) -> None:
    white_box = load(tiny_llama, TrainingSettings(learning_rate=1e-2, max_loss=max_loss))
    examples = examples_of(white_box)
    spoil(white_box)
    before = white_box.weights_sha256()
    with pytest.raises(TrainingDiverged, match=words):
        white_box.optimize(examples)
    assert (white_box.weights_sha256(), white_box.optimizer_steps) == (before, 0)
    assert all(parameter.grad is None for parameter in adapter_parameters(white_box.model).values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_gives_the_same_steps(tiny_llama: Path, dtype: str) -> None:
    saves = TrainingSettings(learning_rate=1e-2, gradient_checkpointing=True)
    plain, saving = (load(tiny_llama, training, dtype=dtype) for training in (TRAINING, saves))
    examples = examples_of(plain)
    for _ in range(2):
        one, other = plain.optimize(examples), saving.optimize(examples)
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)


def test_in_bfloat16_the_adapter_stays_in_float32_and_learns_what_it_learns_there(tiny_llama: Path) -> None:
    exact, rounded = load(tiny_llama, dtype="float32"), load(tiny_llama, dtype="bfloat16")
    assert {one.dtype for one in adapter_parameters(rounded.model).values()} == {torch.float32}
    assert rounded.model.get_base_model().lm_head.weight.dtype == torch.bfloat16
    assert rounded.description["dtype"] == "bfloat16"
    examples = examples_of(exact)
    for _ in range(3):
        assert rounded.optimize(examples).loss == pytest.approx(exact.optimize(examples).loss, rel=0.02)


def test_gradients_are_clipped_to_the_norm(tiny_llama: Path) -> None:
    """AdamW's first step has the size of the learning rate whatever the gradient, so look at its moments."""
    white_box = load(tiny_llama, TrainingSettings(learning_rate=1e-2, clip_norm=0.1))
    assert white_box.optimize(examples_of(white_box)).gradient_norm > 0.1
    moments = white_box._trained_engine().moments()
    clipped = torch.cat([state["exp_avg"].flatten() / 0.1 for state in moments.values()])
    assert float(clipped.norm()) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(
    ("decay", "expected"), [("constant", [0.5, 1.0, 1.0, 1.0]), ("linear", [0.5, 0.775, 0.55, 0.1])]
)
def test_the_learning_rate_warms_up_and_decays_to_its_final_share(decay: Any, expected: list[float]) -> None:
    training = TrainingSettings(learning_rate=1.0, warmup_steps=2, decay=decay, final_learning_rate_share=0.1)
    rates = [learning_rate(training, step, done) for step, done in enumerate([0.0, 0.25, 0.5, 1.0])]
    assert rates == pytest.approx(expected)


def test_a_model_for_inference_samples_and_scores_and_does_not_train(tiny_llama: Path) -> None:
    before = WhiteBox.load_for_inference(settings_for(tiny_llama))
    sampled = load(tiny_llama).sample(PROMPTS, [1, 2, 3], 2, SAMPLING)
    assert before.sample(PROMPTS, [1, 2, 3], 2, SAMPLING) == sampled
    examples = examples_of(before)
    assert before.log_probabilities(scored(examples))[0][0].total < 0
    with pytest.raises(ModelError, match="loaded for inference"):
        before.optimize(examples)
    with pytest.raises(ModelError, match="no adapter"):
        before.save_adapter(tiny_llama / "adapter")


def test_a_model_that_takes_no_packed_rows_warns_and_works_all_the_same(tiny_llama: Path) -> None:
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=4, initializer_range=0.4, **ends)
    with quiet_transformers():
        BloomForCausalLM(config).save_pretrained(tiny_llama)
    with pytest.warns(UserWarning, match="does not take packed rows"):
        white_box = load(tiny_llama)
    examples = examples_of(white_box)
    before = white_box.log_probabilities(scored(examples))
    report = white_box.optimize(examples)
    assert report.sft_losses == pytest.approx([-row[3].mean for row in before], rel=1e-5)
    assert white_box.optimize(examples).loss < report.loss


def test_several_tokens_may_end_a_response(tiny_llama: Path) -> None:
    path = tiny_llama / "generation_config.json"
    free = load(tiny_llama).sample(PROMPTS, [1, 2, 3], 3, SAMPLING)
    stop = free[0][0].tokens[4]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1, stop]}))
    response = load(tiny_llama).sample(PROMPTS, [1, 2, 3], 3, SAMPLING)[0][0]
    assert (response.tokens, response.ended) == (free[0][0].tokens[:5], True)


def test_the_description_is_plain_values(tiny_llama: Path) -> None:
    description = load(tiny_llama).description
    assert json.loads(json.dumps(description)) == description
    assert description["prompt_format"] == "chat"
