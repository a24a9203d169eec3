"""Engines and ranks: ZeRO-2, ZeRO-3 and two processes give the numbers of one plain process; ranks that fail.

This process is rank 0 of one world of two ranks, in which every engine runs, and then of another, for one world after
the other is a promise too.
"""

import gc
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors import safe_open
from torch import distributed, nn

from cyclealign.errors import ModelError, RankLost
from cyclealign.records import OptimizerReport, Response
from cyclealign.settings import MethodSettings, TrainingSettings
from cyclealign.white_box.loading import Recipe, load_pretrained, resolve_device
from cyclealign.white_box.process_group import launch_environment
from cyclealign.white_box.ranks import (
    Failed,
    RankedWhiteBox,
    Ranks,
    started,
    what_to_do,
    white_box_alone,
    white_box_of_ranks,
    worker_environment,
)
from cyclealign.white_box.weights import refuse_dropout
from cyclealign.white_box.white_box import WhiteBox
from tests.tiny_llama import save_tiny_llama
from tests.white_box.boxes import PROMPTS, SAMPLING, examples_of, scored, settings_for

ENGINES = ("torch", "zero-2", "zero-3")
WEIGHTS: dict[str, dict[str, Any]] = {"": {}, "-nf4": {"quantization": "nf4"}, "-bf16": {"dtype": "bfloat16"}}
TOGETHER = [engine + weights for engine in ENGINES for weights in ("", "-nf4")]
"""In bfloat16 two ranks would make other passes, which round otherwise."""
ALONE = [engine + weights for engine in ENGINES for weights in WEIGHTS]


@dataclass
class Lived:
    """What a short run of an engine came to."""

    tokens: list[Any]
    totals: list[float]
    reports: list[OptimizerReport]
    weights: str
    resumed: str
    """The weights of a run that went on from the first one's checkpoint."""
    ranks: int
    listening: set[str]
    """Addresses at which the ranks take connections."""


def recipe(model: Path, case: str, ranks: int = 1) -> Recipe:
    engine, weights = next((one, case.removeprefix(one)) for one in ENGINES if case.startswith(one))
    zero: dict[str, Any] = {} if engine == "torch" else {"engine": "deepspeed", "zero_stage": int(engine[-1])}
    training = TrainingSettings(learning_rate=1e-2, warmup_steps=2, ranks=ranks, **zero)
    return Recipe(settings_for(model, **WEIGHTS[weights]), training, MethodSettings(), seed=3)


def live(load: Callable[[], WhiteBox], folder: Path) -> Lived:
    """Three optimizer steps, of which the second has an example for the first rank alone, and the last two again."""
    white_box = load()
    examples = examples_of(white_box)
    scores = white_box.log_probabilities(scored(examples))
    batches = (examples, examples[:1], examples)
    reports = [white_box.optimize(batches[0])]
    white_box.save_checkpoint(folder)
    reports += [white_box.optimize(batch) for batch in batches[1:]]
    weights, engine = white_box.weights_sha256(), white_box._trained_engine()
    resumed = load()
    resumed.load_checkpoint(folder)
    for batch in batches[1:]:
        resumed.optimize(batch)
    return Lived(
        tokens=[example.responses for example in examples],
        totals=[value.total for row in scores for value in row],
        reports=reports,
        weights=weights,
        resumed=resumed.weights_sha256(),
        ranks=engine.ranks,
        listening=listening_addresses(),
    )


def listening_addresses() -> set[str]:
    process = psutil.Process()
    found = [one for each in (process, *process.children()) for one in each.net_connections("tcp")]
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lived]:
    """Every engine in this process alone, one after the other."""
    found = {}
    for case in ALONE:
        with white_box_alone(recipe(model, case)) as first:
            boxes = iter([first])
            again = partial(WhiteBox.load, recipe(model, case))
            found[case] = live(lambda: next(boxes, None) or again(), tmp_path_factory.mktemp(case))  # noqa: B023
    return found


@dataclass
class World:
    """What two ranks found together, and how their world ended."""

    found: dict[str, Lived]
    served: list[str]
    """Which white boxes a sampling server was called with."""
    lost: RankLost


@pytest.fixture(scope="module")
def two(model: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Every engine on the same two ranks, until one of them fails."""
    world = World({}, [], RankLost())

    def lead(ranks: Ranks, case: str) -> WhiteBox:
        wanted = recipe(model, case, ranks=2)
        if not distributed.is_initialized():
            return RankedWhiteBox.led(ranks, wanted)
        pretrained = load_pretrained(wanted.settings, None, resolve_device(wanted.settings))
        with ranks.doing("load", wanted):
            white_box = RankedWhiteBox.under_new_adapter(pretrained, wanted)
        white_box.ranks = ranks
        return white_box

    def serve(white_box: WhiteBox, *_: Any) -> list[list[Response]]:
        world.served.append(white_box.weights_sha256())
        return []

    with pytest.raises(RankLost) as caught, started(2, ()) as ranks:
        for case in TOGETHER:
            world.found[case] = live(partial(lead, ranks, case), tmp_path_factory.mktemp(case))
        last = lead(ranks, "torch")
        last.server = serve
        assert last.sample(PROMPTS, [1, 2, 3], 2, SAMPLING.model_copy(update={"engine": "vllm"})) == []
        with ranks.doing("call", "no_such_method", (), {}):
            pass
    world.lost = caught.value
    return world


@pytest.fixture(params=[*(f"{case}, alone" for case in ALONE), *(f"{case}, two" for case in TOGETHER)])
def run(request: pytest.FixtureRequest) -> tuple[Lived, Lived, float]:
    """A run, that of one plain process of the same model, and by how much wider tolerances are.

    ZeRO-3 adds gradients up in another order, of which bfloat16 keeps 8 bits.
    """
    case, _, where = request.param.partition(", ")
    alone: dict[str, Lived] = request.getfixturevalue("alone")
    found = alone[case] if where == "alone" else request.getfixturevalue("two").found[case]
    assert found.ranks == (1 if where == "alone" else 2)
    plain = alone["torch" + next(weights for weights in reversed(WEIGHTS) if case.endswith(weights))]
    return found, plain, 200.0 if case == "zero-3-bf16" else 1.0


def test_losses_and_gradients_are_those_of_one_plain_process(run: tuple[Lived, Lived, float]) -> None:
    found, plain, room = run
    for report, expected in zip(found.reports, plain.reports, strict=True):
        assert report.loss == pytest.approx(expected.loss, rel=1e-5 * room)
        assert report.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4 * room)
        assert report.rank_losses == pytest.approx(expected.rank_losses, rel=1e-4 * room, abs=1e-5 * room)


def test_ranks_share_sampling_and_scoring_and_agree_on_the_result(run: tuple[Lived, Lived, float]) -> None:
    found, plain, _ = run
    assert found.tokens == plain.tokens
    assert found.totals == pytest.approx(plain.totals, rel=1e-5)


def test_every_engine_continues_from_its_checkpoint_bit_for_bit(run: tuple[Lived, Lived, float]) -> None:
    assert run[0].resumed == run[0].weights


def test_processes_listen_on_loopback_alone(run: tuple[Lived, Lived, float]) -> None:
    assert run[0].listening <= {"127.0.0.1", "::1"}


def test_deepspeed_starts_without_compiling_an_operation(two: World) -> None:
    assert not hasattr(torch.ops.deepspeed, "inference_all_reduce_")


def test_rank_0_alone_asks_a_server_for_samples(two: World) -> None:
    assert len(two.served) == 1


def test_a_rank_that_fails_ends_the_world_with_an_error_that_names_it(two: World) -> None:
    assert "Rank 1 of 2" in str(two.lost)
    assert "failed: AttributeError: " in str(two.lost)
    assert "'no_such_method'" in str(two.lost)
    assert "rank_worker.py" in two.lost.__notes__[0]


def test_worlds_follow_each_other_and_a_rank_that_dies_while_rank_0_computes_is_named(
    model: Path, two: World, alone: dict[str, Lived]
) -> None:
    """In a group of gloo rank 0 does not wait for ever, however long its own share takes."""
    assert not distributed.is_initialized()
    with (
        pytest.raises(RankLost, match=r"Rank 1 of 2 .*SIGKILL"),
        white_box_of_ranks(recipe(model, "zero-2", 2), ()) as box,
    ):
        assert box.optimize(examples_of(box)).loss == pytest.approx(alone["torch"].reports[0].loss, rel=1e-5)
        (rank,) = box.ranks.followers
        rank.process.send_signal(signal.SIGSTOP)  # or it may have answered before it dies
        with box.ranks.doing("call", "weights_sha256", (), {}):
            rank.process.kill()
            time.sleep(1)
    assert not distributed.is_initialized()
    assert not {*launch_environment(0, 1), "ACCELERATE_USE_DEEPSPEED"} & set(os.environ)


def never_back(said: Path) -> None:
    """Wait for ever for a rank that died."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    with started(2, (), patience_s=0.5) as ranks, ranks.doing("leave"):
        ranks.followers[0].process.kill()
        time.sleep(600)


def test_rank_0_ends_itself_where_it_would_wait_for_ever_for_a_rank_that_died(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=never_back, args=(tmp_path / "said",))
    child.start()
    child.join(300)
    assert child.exitcode == 1
    assert "Rank 1 of 2" in (tmp_path / "said").read_text()
    assert "was killed by SIGKILL" in (tmp_path / "said").read_text()


def test_the_error_of_a_rank_that_ran_out_of_memory_names_settings() -> None:
    advice = what_to_do(Failed("OutOfMemoryError: CUDA out of memory.", "", 0.0))
    assert "training.gradient_checkpointing=true" in advice
    assert "the same command continues" in advice
    assert what_to_do(Failed("ValueError: no", "", 0.0)) == what_to_do(None) != advice


def tensor_bytes() -> int:
    """How much the tensors of this process hold, each storage once; torch.compile may have left some without any."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in {torch.Tensor, nn.Parameter}]
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(torch.Tensor.untyped_storage, tensors)}
    return sum(storages.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_memory_of_a_white_box_is_free_after_it_although_others_refer_to_it(model: Path, engine: str) -> None:
    with safe_open(model / "model.safetensors", framework="pt") as file:
        weights = sum(4 * math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    with white_box_alone(recipe(model, engine)) as white_box:
        white_box.optimize(examples_of(white_box))
        held = tensor_bytes()
    assert held - tensor_bytes() >= weights > 50_000


class Attention(nn.Module):
    """Drops by a figure of its own, as transformers' attentions do."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.attention_dropout = rate


def test_a_model_with_dropout_is_refused_on_several_ranks_and_named() -> None:
    still = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0), Attention(0.0))
    refuse_dropout(still, "still")
    for dropping, named in ((nn.Dropout(0.1), r"Dropout\.p = 0\.1"), (Attention(0.2), r"attention_dropout = 0\.2")):
        with pytest.raises(ModelError, match=rf"some-model trains with dropout \(.*{named}\)"):
            refuse_dropout(nn.Sequential(still, dropping), "some-model")


SECRETS = (
    *("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "apikey", "DB_PASSWORD", "PREFECT_API_URL", "https_proxy"),
    *("PREFECT_API_AUTH_STRING", "PGPASS", "DATABASE_URL", "GITHUB_PAT", "ANYTHING", "CUDA_LLM"),
)
NEEDED = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "HF_HOME", "HF_HUB_CACHE", "TMPDIR"),
    *("CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "OMP_NUM_THREADS", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR"),
    *("TOKENIZERS_PARALLELISM", "DS_ACCELERATOR", "PYTORCH_CUDA_ALLOC_CONF"),
)


def test_other_ranks_get_nothing_secret_but_all_that_they_compute_with_and_no_way_to_the_hub() -> None:
    found = worker_environment(dict.fromkeys((*SECRETS, *NEEDED), "x"), {"CUDA_LLM"})
    assert found.keys() == {*NEEDED, "HF_HUB_OFFLINE", "PYTHONPATH"}
    assert found["HF_HUB_OFFLINE"] == "1"
