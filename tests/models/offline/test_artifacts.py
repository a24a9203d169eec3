"""The built world: complete, loadable, built once, and its judge and reward model at work."""

import json
import queue
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from cyclealign.errors import StorageFull
from cyclealign.method.demonstrations import STATIC_DEMONSTRATION
from cyclealign.method.ranking_prompt import render_ranking_prompt
from cyclealign.offline.artifacts import WorldArtifacts, _follow, _listen, build_world_artifacts
from cyclealign.offline.judge import Judge
from cyclealign.offline.settings import JudgeSettings, WorldSettings
from cyclealign.offline.training import Chain
from cyclealign.offline.world import pairs
from cyclealign.offline.world_judge import load_world_judge
from cyclealign.offline.world_rewards import GroundTruth, WorldRewardModel
from cyclealign.records import Prompt
from tests.full_disk import files_up_to

ITEMS: list[tuple[Prompt, str]] = [(pair.prompt, pair.chosen) for pair in pairs(9, "helpful-base", "test", 6)]


@pytest.fixture(scope="module")
def judge(artifacts: WorldArtifacts) -> Judge:
    return load_world_judge(artifacts.judge, artifacts.writer, JudgeSettings(drafts=2))


def question(prompt: Prompt) -> dict[str, object]:
    text = render_ranking_prompt(prompt.instruction, ["Go away.", "With pleasure!"], [STATIC_DEMONSTRATION])
    return {"model": "offline-judge", "messages": [{"role": "user", "content": text}]}


def test_every_part_is_there_and_nothing_unfinished(artifacts: WorldArtifacts, home: Path) -> None:
    for part in (artifacts.data, artifacts.white_box, artifacts.writer, artifacts.judge, artifacts.evaluation):
        assert part.is_dir()
    assert not list((home / "world").glob("*unfinished*"))
    assert not list(artifacts.white_box.parent.glob("*errors*"))


def test_progress_rises_to_the_end(artifacts: WorldArtifacts, told: list[tuple[str, float]]) -> None:
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_a_built_world_is_found_again(artifacts: WorldArtifacts, home: Path, small: WorldSettings) -> None:
    def refuse(message: str, done: float) -> None:
        raise AssertionError("built again")

    assert build_world_artifacts(home, small, JudgeSettings(prior_pairs=4, noise=2), refuse) == artifacts


def test_another_prior_shares_the_models(artifacts: WorldArtifacts, home: Path, small: WorldSettings) -> None:
    other = build_world_artifacts(home, small, JudgeSettings(prior_pairs=2), lambda *_: None)
    assert other.white_box == artifacts.white_box
    assert other.judge != artifacts.judge


def test_a_build_that_breaks_off_leaves_nothing_to_reuse(tmp_path: Path, small: WorldSettings) -> None:
    def stop(message: str, done: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        build_world_artifacts(tmp_path, small, JudgeSettings(), stop)
    assert not [folder for folder in (tmp_path / "world").iterdir() if folder.is_dir()]


def test_a_world_that_does_not_fit_is_told_as_a_full_disk(tmp_path: Path, small: WorldSettings) -> None:
    with pytest.raises(StorageFull, match="File too large"), files_up_to(200_000):
        build_world_artifacts(tmp_path, small, JudgeSettings(), lambda *_: None)
    assert not [folder for folder in (tmp_path / "world").iterdir() if folder.is_dir()]


def test_following_ends_with_the_chain_that_fails_first() -> None:
    programs: dict[Chain, str] = {
        "cycle": "import time; print('0.5000 training', flush=True); time.sleep(600)",
        "evaluation": "raise SystemExit(3)",
    }
    chains = {
        chain: subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for chain, program in programs.items()
    }
    heard: queue.Queue[tuple[Chain, str | None]] = queue.Queue()
    _listen("evaluation", chains["evaluation"], heard)
    assert _follow(chains, heard, lambda *_: None) == "evaluation"
    chains["cycle"].kill()
    chains["cycle"].communicate()


@pytest.mark.parametrize("part", ["white_box", "writer"])
def test_models_load_like_any_other(artifacts: WorldArtifacts, part: str) -> None:
    folder = getattr(artifacts, part)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer("hello").input_ids[0] == tokenizer.bos_token_id
    assert tokenizer.chat_template is None


def test_the_judge_answers_and_a_second_one_answers_the_same(judge: Judge, artifacts: WorldArtifacts) -> None:
    again = load_world_judge(artifacts.judge, artifacts.writer, JudgeSettings(drafts=2))
    prompts = [prompt for prompt, _ in ITEMS[:3]]
    said = [judge.answer(question(prompt)) for prompt in prompts]
    assert [again.answer(question(prompt)) for prompt in reversed(prompts)] == said[::-1]
    answer = json.loads(said[0]["choices"][0]["message"]["content"])
    assert sorted(answer["desired rank"]) == [0, 1]
    assert answer["response"]


def test_a_score_does_not_depend_on_its_neighbours(artifacts: WorldArtifacts) -> None:
    model = WorldRewardModel(artifacts.evaluation)
    together = model.score(ITEMS)
    assert together == pytest.approx([model.score([item])[0] for item in ITEMS], abs=1e-5)
    assert model.identity.startswith("world:reward-model@")


def test_the_ground_truth_scores_quality_and_well_formedness() -> None:
    quality, form = GroundTruth("quality"), GroundTruth("well-formedness")
    assert (quality.identity, form.identity) == ("world:quality", "world:well-formedness")
    prompt = ITEMS[0][0]
    assert form.score([(prompt, "With pleasure!"), (prompt, "xyzzy")]) == [1.0, 0.0]
    assert quality.score([(prompt, "Go away.")]) == [0.0]
