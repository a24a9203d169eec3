"""The built world: complete, loadable, built once, and its judge and reward model at work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from cyclealign.errors import ModelError, StorageFull
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.artifacts import WorldArtifacts, _follow, build_world_artifacts
from cyclealign.offline.tiny_models import WorldRewardModel
from cyclealign.offline.world import pairs
from cyclealign.offline.world_judge import load_world_judge
from cyclealign.records import Prompt
from cyclealign.settings import JudgeSettings
from tests.full_disk import files_up_to
from tests.offline.conftest import SMALL_WORLD, Heard

ITEMS: list[tuple[Prompt, str]] = [(pair.prompt, pair.chosen) for pair in pairs(9, "helpful-base", "test", 6)]


def test_every_part_is_there_and_nothing_unfinished(world: WorldArtifacts, home: Path, heard: Heard) -> None:
    for part in (world.data, world.white_box, world.writer, world.judge, world.evaluation):
        assert part.is_dir()
    assert not list((home / "world").glob("*unfinished*"))
    assert not list(world.white_box.parent.glob("*errors*"))
    assert heard.rises_to_the_end()


def test_a_built_world_is_found_again_and_another_prior_shares_its_models(world: WorldArtifacts, home: Path) -> None:
    again = Heard()
    assert build_world_artifacts(home, SMALL_WORLD, JudgeSettings(prior_pairs=4, noise=2), again) == world
    other = build_world_artifacts(home, SMALL_WORLD, JudgeSettings(prior_pairs=2), again)
    assert other.white_box == world.white_box
    assert other.judge != world.judge
    assert again == []


def remains(home: Path) -> list[Path]:
    """The folders that a build left."""
    return [folder for folder in (home / "world").iterdir() if folder.is_dir()]


def test_a_build_that_breaks_off_leaves_nothing_to_reuse(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        build_world_artifacts(tmp_path, SMALL_WORLD, JudgeSettings(), lambda *_: 1 / 0)
    assert remains(tmp_path) == []


@pytest.mark.parametrize(
    ("room", "error", "words"),
    [
        (2**30, ModelError, r"\((cycle|evaluation)\) ended with exit code 1, not 0.*no torch for you"),
        (200_000, StorageFull, "File too large"),
    ],
    ids=["failed", "full disk"],
)
def test_a_chain_that_fails_is_an_error_with_its_last_words_or_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, error: type[Exception], words: str
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch for you')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(error, match=words), files_up_to(room):
        build_world_artifacts(tmp_path, SMALL_WORLD, JudgeSettings(), lambda *_: None)
    assert remains(tmp_path) == []


def test_following_ends_with_the_chain_that_fails_first() -> None:
    working = "import time\nwhile True: print('cycle 0.5000 training', flush=True); time.sleep(0.02)"
    read, write = os.pipe()
    chains = {
        name: subprocess.Popen([sys.executable, "-c", program], stdout=write, text=True)
        for name, program in {"cycle": working, "evaluation": "raise SystemExit(3)"}.items()
    }
    os.close(write)
    with os.fdopen(read) as heard:
        assert _follow(chains, heard, lambda *_: None) == "evaluation"
    chains["cycle"].kill()
    chains["cycle"].wait()


def test_models_load_like_any_other(world: WorldArtifacts) -> None:
    for folder in (world.white_box, world.writer):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.config.vocab_size == len(tokenizer)
        assert tokenizer("hello").input_ids[0] == tokenizer.bos_token_id
        assert tokenizer.chat_template is None


def test_the_judge_answers_and_a_second_one_answers_the_same(world: WorldArtifacts) -> None:
    one, two = (load_world_judge(world.judge, world.writer, JudgeSettings(drafts=2)) for _ in range(2))
    bodies = []
    for prompt, _ in ITEMS[:3]:
        text = render_ranking_prompt(prompt.instruction, ["Go away.", "With pleasure!"], [STATIC_DEMONSTRATION])
        bodies.append({"model": "offline-judge", "messages": [{"role": "user", "content": text}]})
    said = [one.answer(body) for body in bodies]
    assert [two.answer(body) for body in reversed(bodies)] == said[::-1]
    answer = json.loads(said[0]["choices"][0]["message"]["content"])
    assert sorted(answer["desired rank"]) == [0, 1]
    assert answer["response"]


def test_a_score_does_not_depend_on_its_neighbours(world: WorldArtifacts) -> None:
    model = WorldRewardModel(world.evaluation)
    assert model.score(ITEMS) == pytest.approx([model.score([item])[0] for item in ITEMS], abs=1e-5)
    assert model.identity.startswith("world:reward-model@")
