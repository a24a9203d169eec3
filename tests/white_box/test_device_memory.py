"""Running out of a device's memory, by a network that says so in the place of a full GPU."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from cyclealign.errors import DeviceMemoryFull
from cyclealign.records import Prompt, Turn
from cyclealign.reward_models.reward_model import rewards_of
from cyclealign.settings import MethodSettings, TrainingSettings
from cyclealign.white_box.device_memory import SAMPLING, fitting
from cyclealign.white_box.loading import Pretrained, Recipe
from cyclealign.white_box.white_box import WhiteBox
from tests.crowded import Crowded
from tests.white_box.boxes import settings_for

PROMPT = Prompt.from_turns("helpful-base", "test", [Turn("human", "How do I cook rice?")])


class CrowdedRewardModel:
    """A reward model on a full device."""

    identity = "crowded"

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[float]:
        return list(Crowded(nn.Identity(), full=True)(torch.zeros(len(items))))


def test_the_error_says_what_did_not_fit_where_and_what_to_set() -> None:
    with pytest.raises(DeviceMemoryFull) as caught, fitting("Sampling 3 responses to each of 16 prompts", SAMPLING):
        Crowded(nn.Identity(), full=True)(torch.zeros(1))
    said = str(caught.value)
    assert said.startswith("Sampling 3 responses to each of 16 prompts ran out of a device's memory: CUDA out of")
    assert "GPU 0 has a total capacity of 39.39 GiB of which 1.20 GiB is free." in said
    assert "PYTORCH_CUDA_ALLOC_CONF" not in said
    assert "the same command continues, also with training.ranks=R on R GPUs" in said
    assert "Under another run name, for it changes results: a lower training.wave" in said
    assert "white_box.quantization=nf4" in said


def test_every_other_error_passes() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), fitting("Sampling", SAMPLING):
        raise RuntimeError("size mismatch")


def test_a_reward_model_that_does_not_fit_names_itself_and_the_responses() -> None:
    with pytest.raises(DeviceMemoryFull, match=r"^Scoring 2 responses by crowded .*score_during_training=false"):
        rewards_of(CrowdedRewardModel(), [(PROMPT, "Rinse it."), (PROMPT, "No.")])


def test_a_full_device_is_no_reason_to_run_a_model_without_packed_rows(tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.model.norm = Crowded(model.model.norm, full=True)
    pretrained = Pretrained(model.eval(), AutoTokenizer.from_pretrained(tiny_llama), {"model": "crowded"})
    with pytest.raises(DeviceMemoryFull, match="A first pass of"):
        WhiteBox.under_new_adapter(
            pretrained, Recipe(settings_for(tiny_llama), TrainingSettings(), MethodSettings(), seed=0)
        )
