"""Both ways of running a wave sample, score and learn the same, on a small model of SmolLM2's kind."""

from pathlib import Path

import pytest

from benchmarks import made_up_model
from benchmarks.smollm2_wave import CANDIDATES, SHAPE, Ours, Theirs, Wave, model_folder, new_white_box, row_of
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.white_box.white_box import WhiteBox

SMALL = SHAPE | {
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
}
WORDS = (9, 30, 4)
"""Of three prompts, one of which is cut."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_model.save_shape(tmp_path_factory.mktemp("model"), SMALL)


def sides(folder: Path, temperature: float, *, lean: bool = False) -> tuple[Ours, Theirs, WhiteBox]:
    ours, theirs = (new_white_box(folder, prompt=16, response=6) for _ in range(2))
    sampling = SamplingSettings(temperature=temperature, top_p=0.9, max_new_tokens=6)
    wave = Wave.made_up(ours, WORDS, sampling)
    assert [len(one) for one in wave.encoded] == [11, 16, 6]
    return Ours(ours, wave), Theirs(theirs, wave, lean=lean), theirs


@pytest.mark.parametrize("lean", [False, True])
def test_where_nothing_is_drawn_both_sample_score_and_learn_the_same_step_after_step(folder: Path, lean: bool) -> None:
    ours, theirs, _ = sides(folder, temperature=0, lean=lean)
    for _ in range(2):
        first, second = ours.run(), theirs.run()
        assert first.tokens == second.tokens
        assert first.scores == pytest.approx(second.scores, rel=1e-4)
        assert first.loss == pytest.approx(second.loss, rel=1e-4)


def test_drawn_responses_are_as_many_and_as_long_on_both_sides(folder: Path) -> None:
    ours, theirs, _ = sides(folder, temperature=1.0)
    for done in (ours.run(), theirs.run()):
        assert [len(one) for one in done.tokens] == [6] * CANDIDATES * len(WORDS)
        assert len(done.scores) == CANDIDATES * len(WORDS)
        assert len({tuple(one) for one in done.tokens}) > len(WORDS)


def test_the_other_way_trains_the_adapter(folder: Path) -> None:
    ours, theirs, box = sides(folder, temperature=0)
    before = box.weights_sha256()
    assert before == ours.white_box.weights_sha256()
    theirs.run()
    assert box.weights_sha256() != before


def test_without_the_models_weights_random_ones_of_its_shape_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYCLEALIGN_HOME", str(tmp_path))
    installed = tmp_path / "models" / "smollm2-135m-instruct"
    installed.mkdir(parents=True)
    with model_folder() as (found, origin):
        assert (found, origin) == (installed, "pretrained")
    parameters = sum(one.numel() for one in made_up_model.of_shape(SHAPE, device="meta").parameters())
    assert parameters == 134_515_008


def test_the_row_is_the_ratio_of_tokens_per_second() -> None:
    row = row_of([(10.0, 20.0), (12.0, 18.0)], "random weights, 2 CPU threads", lean=False)
    assert row.values == (2.0, 1.5)
    assert (row.note or "").startswith("52 against 30 sampled tokens per second")
    assert (row.note or "").endswith("random weights, 2 CPU threads")
