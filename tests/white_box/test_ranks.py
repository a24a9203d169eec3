"""Ranks that are started beside this process: their environment, their failures, and groups one after another."""

import gc
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import distributed, nn

from cyclealign.errors import ModelError, RankLost
from cyclealign.records import Prompt, TrainingExample, Turn
from cyclealign.settings import MethodSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.process_group import launch_environment
from cyclealign.white_box.ranks import (
    Failed,
    RankedWhiteBox,
    started,
    what_to_do,
    white_box_alone,
    white_box_of_ranks,
    worker_environment,
)
from cyclealign.white_box.weights import refuse_dropout

PROMPT = Prompt.from_turns("helpful-base", "train", [Turn("human", "How do I cook rice?")])
EXAMPLES = [TrainingExample(PROMPT, ((5, 6), (7, 8, 9)), order, 0) for order in ((0, 1), (1, 0), (0, 1))]
NEVER_BACK = """
import time
from cyclealign.white_box.process_group import launch_environment
from cyclealign.white_box.ranks import started
with started(2, (), patience_s=0.5) as ranks:
    with ranks.doing("leave"):
        ranks.followers[0].process.kill()
        time.sleep(600)
"""


def recipe(model: Path, stage: int, ranks: int = 2, engine: str = "deepspeed") -> Recipe:
    settings = WhiteBoxSettings(model=str(model), max_length=160, device="cpu")
    training = TrainingSettings.model_validate({"ranks": ranks, "engine": engine, "zero_stage": stage})
    return Recipe(settings, training, MethodSettings(), seed=3)


def test_groups_follow_each_other_in_one_process_also_after_a_rank_has_failed(module_tiny_llama: Path) -> None:
    """As in a grid of runs: ZeRO-2 on two ranks until one fails, ZeRO-3 on two others, then nobody else."""
    with (
        pytest.raises(RankLost, match=r"Rank 1 of 2 .*failed: AttributeError: .*'no_such_method'") as caught,
        white_box_of_ranks(recipe(module_tiny_llama, 2), ()) as failing,
        failing.ranks.doing("call", "no_such_method", (), {}),
    ):
        pass
    assert "rank_worker.py" in caught.value.__notes__[0]
    assert not distributed.is_initialized()
    with white_box_of_ranks(recipe(module_tiny_llama, 3), ()) as two:
        losses = [two.optimize(EXAMPLES).loss for _ in range(3)]
    with white_box_alone(recipe(module_tiny_llama, 2, ranks=1)) as one:
        assert [one.optimize(EXAMPLES).loss for _ in range(3)] == pytest.approx(losses, rel=1e-5)
    assert not {*launch_environment(0, 1), "ACCELERATE_USE_DEEPSPEED"} & set(os.environ)


def test_of_a_rank_that_ran_out_of_memory_it_is_said_what_to_set() -> None:
    said = what_to_do(Failed("OutOfMemoryError: CUDA out of memory.", "", 0.0))
    assert "training.gradient_checkpointing=true" in said
    assert "the same command continues" in said
    assert what_to_do(Failed("ValueError: no", "", 0.0)) == what_to_do(None) != said


def tensor_bytes() -> int:
    """What the tensors of this process hold, each storage once; torch.compile may have left some that hold nothing."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in {torch.Tensor, nn.Parameter}]
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(torch.Tensor.untyped_storage, tensors)}
    return sum(storages.values())


@pytest.mark.parametrize(("engine", "stage"), [("torch", 2), ("deepspeed", 2), ("deepspeed", 3)])
def test_the_memory_of_a_white_box_is_free_after_it_also_where_something_still_knows_it(
    module_tiny_llama: Path, engine: str, stage: int
) -> None:
    with safe_open(module_tiny_llama / "model.safetensors", framework="pt") as file:
        weights = sum(4 * math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    with white_box_alone(recipe(module_tiny_llama, stage, ranks=1, engine=engine)) as white_box:
        white_box.optimize(EXAMPLES)
        held = tensor_bytes()
    assert held - tensor_bytes() >= weights > 50_000


class Attention(nn.Module):
    """Drops by a figure of its own, as transformers' attentions do."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.attention_dropout = rate


@pytest.mark.parametrize(
    ("dropping", "named"),
    [(nn.Dropout(0.1), r"Dropout\.p = 0\.1"), (Attention(0.2), r"Attention\.attention_dropout = 0\.2")],
    ids=["module", "attribute"],
)
def test_a_model_with_dropout_is_refused_on_several_ranks_and_named(dropping: nn.Module, named: str) -> None:
    still = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), Attention(0.0))
    refuse_dropout(still, "still")
    with pytest.raises(ModelError, match=rf"some-model trains with dropout \({named}\)"):
        refuse_dropout(nn.Sequential(still, dropping), "some-model")


def test_rank_0_that_computes_on_after_a_rank_has_died_ends_with_the_error_that_names_it(
    module_tiny_llama: Path,
) -> None:
    """In a group of gloo nobody waits for ever, however long rank 0's own share takes."""
    with pytest.raises(RankLost, match=r"Rank 1 of 2 .*SIGKILL"), started(2, (), patience_s=0.5) as ranks:
        RankedWhiteBox.led(ranks, recipe(module_tiny_llama, 2, engine="torch"))
        ranks.followers[0].process.send_signal(signal.SIGSTOP)  # or it may have answered before it dies
        with ranks.doing("call", "weights_sha256", (), {}):
            ranks.followers[0].process.kill()
            time.sleep(2)


def test_rank_0_ends_itself_where_it_would_wait_for_ever_for_a_rank_that_died() -> None:
    done = subprocess.run([sys.executable, "-c", NEVER_BACK], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "Rank 1 of 2" in done.stderr
    assert "was killed by SIGKILL" in done.stderr


SECRETS = (
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "apikey",
    "DB_PASSWORD",
    "PREFECT_API_URL",
    "PREFECT_API_AUTH_STRING",
    "https_proxy",
    "PGPASS",
    "DATABASE_URL",
    "GITHUB_PAT",
    "ANYTHING",
    "CUDA_LLM",
)


@pytest.mark.parametrize("name", SECRETS)
def test_other_ranks_get_nothing_secret(name: str) -> None:
    assert name not in worker_environment({name: "secret"}, {"CUDA_LLM"})


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "HF_HOME", "HF_HUB_CACHE", "TMPDIR"),
        *("CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "OMP_NUM_THREADS", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR"),
        *("TOKENIZERS_PARALLELISM", "DS_ACCELERATOR", "PYTORCH_CUDA_ALLOC_CONF"),
    ],
)
def test_other_ranks_get_what_they_compute_with(name: str) -> None:
    assert worker_environment({name: "x"}, {"CUDA_LLM"})[name] == "x"


def test_other_ranks_do_not_go_to_the_hub() -> None:
    assert worker_environment({}, ())["HF_HUB_OFFLINE"] == "1"
