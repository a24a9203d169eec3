"""Sampling by a vLLM server: the adapter really reaches it, its tokens are ours, its faults end in errors that help.

With `CYCLEALIGN_VLLM=http://127.0.0.1:8000/v1` the tests that need no fault run against that server instead of the
stand-in. Its model has to be a folder of this machine with a chat template, served in float32 with --enable-lora.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cyclealign.errors import EndpointRefused, ModelError
from cyclealign.records import Response, TrainingExample
from cyclealign.settings import MethodSettings, SamplingSettings, TrainingSettings, WhiteBoxSettings
from cyclealign.white_box.loading import Recipe
from cyclealign.white_box.prompt_format import SPEAKER_MARKS
from cyclealign.white_box.vllm_server import VllmServer
from cyclealign.white_box.white_box import WhiteBox
from tests.serving import serving
from tests.tiny_llama import save_tiny_llama
from tests.white_box import boxes
from tests.white_box.boxes import GREEDY, PROMPTS
from tests.white_box.vllm_standin import Standin

REAL = os.environ.get("CYCLEALIGN_VLLM")
KEY = "sk-canary-7be2f04d91"
SEEDS = [1, 2, 2**63 - 1]
WARM = SamplingSettings(temperature=0.9, top_p=0.9, max_new_tokens=16)
needs_standin = pytest.mark.skipif(REAL is not None, reason="a real server fails when it likes")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    folder = save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")
    with serving(Standin(lambda: folder)) as server:
        yield server


@pytest.fixture
def server(running: Standin) -> Standin:
    """The stand-in as if it had just started; with a real one, only an address and a folder."""
    running.root, running.max_model_len, running.key, running.fault = None, 256, None, ""
    running.together, running.lives, running.others = 1, 10**9, frozenset()
    running.asked.clear(), running.ever_loaded.clear(), running.arrival.clear()
    if REAL is not None:
        (base,) = [one for one in httpx2.get(f"{REAL}/models").json()["data"] if not one["parent"]]
        running.url, running.model = REAL, lambda: Path(base["root"])
    running.others = frozenset(loaded(running))
    return running


def loaded(server: Standin) -> list[str]:
    """The adapters that the server has, but those that it had before the test."""
    listed = httpx2.get(f"{server.url}/models").json()["data"]
    return [one["id"] for one in listed if one["parent"] and one["id"] not in server.others]


def settings_for(server: Standin, **changes: Any) -> WhiteBoxSettings:
    there = {"base_url": server.url, "timeout_s": 120, **changes.pop("vllm", {})}
    return boxes.settings_for(server.model(), dtype="float32", vllm=there, **changes)


def white_box_for(server: Standin, **changes: Any) -> WhiteBox:
    settings = settings_for(server, **changes)
    training = TrainingSettings(learning_rate=2e-3 if REAL else 1e-2)
    white_box = WhiteBox.load(Recipe(settings, training, MethodSettings(), seed=7))
    white_box.server = VllmServer(settings.vllm)
    return white_box


def teach(white_box: WhiteBox, text: str, steps: int = 12) -> None:
    target = white_box.encode_reply(text, 16).tokens
    for step in range(steps):
        white_box.optimize([TrainingExample(PROMPTS[step % 3], (target,), (0,), 0)])


def by(engine: str, white_box: WhiteBox, sampling: SamplingSettings, responses: int = 1) -> list[list[Response]]:
    return white_box.sample(PROMPTS, SEEDS, responses, sampling.model_copy(update={"engine": engine}))


def test_decoded_greedily_a_model_without_adapter_says_what_it_says_in_transformers(server: Standin) -> None:
    settings = settings_for(server)
    white_box = WhiteBox.load_for_inference(settings)
    with pytest.raises(ModelError, match="was given no server"):
        by("vllm", white_box, GREEDY)
    white_box.server = VllmServer(settings.vllm)
    assert by("vllm", white_box, GREEDY) == by("transformers", white_box, GREEDY)


def test_the_adapter_reaches_the_server_whenever_it_has_changed_and_the_earlier_one_leaves(server: Standin) -> None:
    white_box = white_box_for(server)
    untrained = by("vllm", white_box, GREEDY)
    first = loaded(server)
    teach(white_box, "The sea, the sea.")
    trained = by("vllm", white_box, GREEDY)
    assert trained == by("transformers", white_box, GREEDY)
    assert all(before != after for before, after in zip(untrained, trained, strict=True))
    (name,) = loaded(server)
    assert name.startswith(white_box.weights_sha256())
    assert name not in first
    by("vllm", white_box, GREEDY)
    assert loaded(server) == [name]  # the same weights are not sent again


def test_a_white_box_that_is_gone_leaves_neither_adapter_nor_folder(server: Standin, tmp_path: Path) -> None:
    white_box = white_box_for(server, vllm={"adapter_folder": str(tmp_path)})
    by("vllm", white_box, GREEDY)
    assert [folder.name for folder in tmp_path.iterdir()] == loaded(server)
    del white_box
    assert (list(tmp_path.iterdir()), loaded(server)) == ([], [])


def test_every_prompt_gets_its_responses_drawn_with_its_own_seed(server: Standin) -> None:
    white_box = white_box_for(server)
    drawn = by("vllm", white_box, WARM, responses=4)
    assert [len(responses) for responses in drawn] == [4, 4, 4]
    assert all(1 <= len(one.tokens) <= 16 for responses in drawn for one in responses)
    assert all(len(set(responses)) > 1 for responses in drawn)
    assert by("vllm", white_box, WARM, responses=4) == drawn
    others = white_box.sample(PROMPTS, [4, 5, 6], 4, WARM.model_copy(update={"engine": "vllm"}))
    assert all(one != other for one, other in zip(drawn, others, strict=True))
    greedy = by("vllm", white_box, GREEDY, responses=3)
    assert [(len(responses), len(set(responses))) for responses in greedy] == [(3, 1)] * 3


def test_a_response_ends_at_its_end_of_sequence_token_or_at_the_next_speakers_mark(server: Standin) -> None:
    chat, plain = white_box_for(server), white_box_for(server, prompt_format="plain")
    teach(chat, "Rice.")
    teach(plain, "Rice.\n\nHuman: And then")
    for white_box in (chat, plain):
        found = by("vllm", white_box, GREEDY)
        assert found == by("transformers", white_box, GREEDY)
        if REAL:  # the tiny one is slow to learn; the next test sees that the ends are asked for
            assert all(one.ended and "Human" not in one.text for (one,) in found)


@needs_standin
def test_all_prompts_go_out_at_once_and_say_what_a_server_would_else_take_from_the_models_files(
    server: Standin,
) -> None:
    server.together = 3
    by("vllm", white_box_for(server, prompt_format="plain"), WARM, responses=2)
    first, *_ = server.asked
    neutral = {"top_k": 0, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    ends = {"stop": list(SPEAKER_MARKS), "stop_token_ids": [1], "ignore_eos": True}
    assert {**first, **neutral, **ends} == first
    assert len({body["seed"] for body in server.asked}) == 3
    assert all(body["seed"] + 2 < 2**63 for body in server.asked)


FAULTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "another model": ({"root": "/models/llama"}, ModelError, "serves /models/llama, expected tiny-llama"),
    "too short": ({"max_model_len": 100}, ModelError, "takes 100 tokens .* --max-model-len 128"),
    "no runtime updating": ({"fault": "no runtime updating"}, ModelError, "Not Found.*VLLM_ALLOW_RUNTIME_LORA"),
    "no LoRA": ({"fault": "no lora"}, ModelError, "LoRA is not enabled.*--enable-lora"),
    "no token ids": ({"fault": "no token ids"}, ModelError, "did not answer with 3 responses as token ids"),
    "too few responses": ({"fault": "too few"}, ModelError, "did not answer with 3 responses"),
    "broken off": ({"fault": "abort"}, EndpointRefused, r"middle of a response \(abort\)"),
    "cut off": ({"fault": "cut off"}, EndpointRefused, "does not answer .* The same command continues"),
    "dies half-way": ({"lives": 2}, EndpointRefused, "does not answer .* The same command continues"),
    "engine is dead": ({"fault": "dead"}, EndpointRefused, "EngineCore encountered an issue"),
    "wrong key": ({"key": "sk-another-one-1234"}, EndpointRefused, "refuses the key.*VLLM_API_KEY"),
    "not there": (
        {"url": "http://127.0.0.1:9/v1"},
        EndpointRefused,
        r"127\.0\.0\.1:9/v1 does not answer .*vllm serve MODEL",
    ),
}


@needs_standin
@pytest.mark.parametrize(("state", "error", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_ends_in_an_error_with_a_remedy_and_no_key(
    server: Standin, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], error: type[Exception], words: str
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    for name, value in state.items():
        monkeypatch.setattr(server, name, value)
    with pytest.raises(error, match=words) as caught:
        by("vllm", white_box_for(server), WARM, responses=3)
    assert KEY not in f"{caught.value!r} {caught.value.__context__!r}"
    assert caught.value.__context__ is None


@needs_standin
def test_a_key_of_the_environment_opens_the_server_and_no_error_shows_an_impossible_one(
    server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = KEY
    monkeypatch.setenv("MY_KEY", KEY)
    white_box = white_box_for(server, vllm={"api_key_env": "MY_KEY"})
    assert len(by("vllm", white_box, WARM)) == 3
    monkeypatch.setenv("MY_KEY", f"{KEY}\nX: y")
    with pytest.raises(EndpointRefused, match="MY_KEY holds characters") as caught:
        by("vllm", white_box, WARM)
    assert KEY not in repr(caught.value)


@needs_standin
def test_other_weights_under_the_same_name_are_found_out(server: Standin, tmp_path: Path) -> None:
    same, other = server.model(), save_tiny_llama(tmp_path / "tiny-llama", seed=1)
    white_box = white_box_for(server)
    with serving(Standin(lambda: other, root=str(same))) as impostor:
        white_box.server = VllmServer(settings_for(impostor).vllm)
        with pytest.raises(ModelError, match=r"disagree about one response.*nats a token"):
            by("vllm", white_box, WARM)
