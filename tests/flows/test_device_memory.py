"""A run on a device that is full for a while: it ends with an error that says what to set, and continues."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cyclealign.errors import DeviceMemoryFull
from cyclealign.profiles import merge
from flows.train import train
from storage.asking import answer
from tests.flows.children import TINY

CROWDED = '''
"""The tiny Llama on a device that is full after so many passes as its file says, while there is such a file."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM


class CrowdedLlama(LlamaForCausalLM):
    def forward(self, *arguments, **named):
        left = Path(self.config.passes_left)
        if left.exists():
            passes = int(left.read_text())
            left.write_text(str(passes - 1))
            if passes <= 0:
                raise torch.OutOfMemoryError("CUDA out of memory. GPU 0 has a total capacity of 39.39 GiB.")
        return super().forward(*arguments, **named)
'''


@pytest.fixture
def crowded(home: Path, tmp_path: Path) -> Path:
    """The folder of the world's white box with code of its own."""
    folder = shutil.copytree(next((home / "world").glob("**/white-box")), tmp_path / "crowded")
    (folder / "crowded.py").write_text(CROWDED)
    config = json.loads((folder / "config.json").read_text())
    code = {"auto_map": {"AutoModelForCausalLM": "crowded.CrowdedLlama"}, "passes_left": str(tmp_path / "left")}
    (folder / "config.json").write_text(json.dumps(config | code))
    return folder


def told(home: Path, question: str) -> Any:
    return answer(home, question).iloc[0].to_dict()


@pytest.mark.filterwarnings("ignore:Python code from the repository")
def test_a_full_device_ends_the_run_and_the_same_command_continues_it(home: Path, crowded: Path) -> None:
    white_box = {"model": str(crowded), "trust_remote_code": True}
    overrides = merge(TINY, {"white_box": white_box})
    whole = train(profile="laptop", overrides=overrides, run="roomy")
    left = crowded.parent / "left"
    left.write_text("20")
    with pytest.raises(DeviceMemoryFull, match=r"^Sampling 3 responses to each of \d prompts ran out"):
        train(profile="laptop", overrides=overrides, run="crowded")
    ended = told(home, "select state, state_reason from runs where run_name = 'crowded'")
    assert ended["state"] == "failed"
    assert "the same command continues" in ended["state_reason"]
    recorded = told(home, "select count(*) as n from rounds where run_name = 'crowded'")["n"]
    assert recorded > 0
    left.unlink()
    continued = train(profile="laptop", overrides=overrides, run="crowded")
    assert (continued["state"], continued["weights_sha256"]) == ("complete", whole["weights_sha256"])
