"""The phases of a round and of the evaluation on a device that is full: what did not fit, and what to set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from cyclealign.errors import DeviceMemoryFull
from cyclealign.profiles import resolve
from cyclealign.records import Prompt
from cyclealign.settings import Settings
from cyclealign.white_box.loading import Pretrained, Recipe
from cyclealign.white_box.white_box import WhiteBox
from storage.rounds import SampledRound
from tasks.cycle.loop import Cycle, optimize, sample
from tasks.evaluation.responders import WhiteBoxResponder
from tests.crowded import Crowded
from tests.storage.values import ranked
from tests.tasks.asked import prompt
from tests.tiny_llama import save_tiny_llama

PROMPTS: list[Prompt] = [prompt(number) for number in range(2)]


def settings(model: Path) -> Settings:
    short = {"sampling": {"max_new_tokens": 8}}
    white_box = {"model": str(model), "max_length": 128, "device": "cpu", **short}
    return resolve("crowded", {"data": {"source": "folder"}, "white_box": white_box, "evaluation": short}, {})


class Device:
    """A cycle on a device that fills up when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings(folder)
        network = AutoModelForCausalLM.from_pretrained(folder).eval()
        network.model.norm = self.part = Crowded(network.model.norm)
        self.white_box = WhiteBox.under_new_adapter(
            Pretrained(network, AutoTokenizer.from_pretrained(folder), {"model": "crowded"}),
            Recipe(self.settings.white_box, self.settings.training, self.settings.method, seed=0),
        )
        parts = {"run_name": "a-run", "prompts": PROMPTS, "prompt": PROMPTS.__getitem__}
        self.cycle = cast(Cycle, SimpleNamespace(**parts, settings=self.settings, white_box=self.white_box))
        self.sampled = self.sample()

    def sample(self) -> tuple[SampledRound, ...]:
        return sample(self.cycle, [0, 1], 1, 0)

    def optimize(self) -> object:
        return optimize(self.cycle, [(one, ranked(one.step)) for one in self.sampled])

    def respond(self) -> object:
        return list(WhiteBoxResponder(self.white_box, False, self.settings.evaluation).batches(PROMPTS, "s", {}))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Of a tiny Llama that has sampled a round, and has room yet."""
    return Device(save_tiny_llama(tmp_path / "tiny-llama"))


PHASES: Mapping[str, tuple[Callable[[Device], object], str]] = {
    "sampling": (Device.sample, "^Sampling 3 responses to each of 2 prompts .*lower training.wave"),
    "training": (
        Device.optimize,
        r"^An optimizer step on 2 examples .*training\.gradient_checkpointing=true or white_box\.quantization=nf4",
    ),
    "evaluation": (Device.respond, "^Responding to 2 held-out prompts .*continues, also with a lower evaluation.batch"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_that_does_not_fit_says_what_to_set_has_changed_nothing_and_is_done_once_there_is_room(
    device: Device, phase: str
) -> None:
    run, said = PHASES[phase]
    device.part.full = True
    with pytest.raises(DeviceMemoryFull, match=said):
        run(device)
    device.part.full = False
    assert [one.responses for one in device.sample()] == [one.responses for one in device.sampled]
    assert run(device)
