"""The GPU's rows on the CPU with a small model: both sides learn the same, and without a GPU nothing is claimed."""

from typing import Any

import pytest
import torch
from transformers import CompileConfig

from benchmarks import gpu_round
from benchmarks.gpu_round import LLAMA_7B, PROFILE, Measured, measured, rows_of
from benchmarks.made_up_model import of_shape
from cyclealign.white_box import compiled_steps
from tasks.context import load_settings

SMALL = LLAMA_7B | {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
ON_CPU: dict[str, Any] = {
    "training": {"engine": "torch"},
    "white_box": {"device": "cpu", "dtype": "float32", "sampling": {"max_new_tokens": 7}},
}


def test_both_sides_have_the_same_losses_step_after_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_steps, "COMPILATION", CompileConfig(backend="eager", mode=None))
    found = measured(load_settings(PROFILE, ON_CPU), SMALL, prompt_tokens=9, repeats=2)
    torch._dynamo.reset()
    # the learning rate of the profile is so small that the warm-up on other prompts moves neither loss by more
    assert [ours for ours, _ in found.losses] == pytest.approx([theirs for _, theirs in found.losses], rel=1e-3)
    phases = (found.sampling, found.compiled, found.scoring, found.training, found.published)
    assert all(len(phase) == 2 and min(phase) > 0 for phase in phases)


def test_the_rows_say_what_was_measured() -> None:
    found = Measured([2.0], [1.0], [0.1], [0.5], [1.5], peak=20.0, published_peak=30.0, flops=989e11)
    memory, training, compiled = rows_of(found, "NVIDIA H100 80GB HBM3")
    assert (memory.ratio, training.ratio, compiled.ratio) == (20.0, 3.0, 2.0)
    assert memory.note is not None
    assert "training 0.50 s (20 % of the GPU's peak arithmetic)" in memory.note
    assert "20.0 GiB against 30.0 GiB" in (training.note or "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_nothing_is_claimed() -> None:
    assert [row.ratio for row in gpu_round.rows()] == [None] * 3


def test_the_shape_is_llama_7bs() -> None:
    assert sum(one.numel() for one in of_shape(LLAMA_7B, device="meta").parameters()) == 6_738_415_616
