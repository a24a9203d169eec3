"""A whole round and its parts do the same, which is looked at; the made-up model and judge; the row's arithmetic."""

import json
from pathlib import Path

import pytest

from benchmarks import made_up_model
from benchmarks.instant_judge import InstantJudge
from benchmarks.ranking_steps import Sizes
from benchmarks.round_sides import Parts, check_equal, cycle_of, made_before, new_white_box, run_rounds, settings_for
from benchmarks.whole_round import in_fresh_process, row_of
from cyclealign.settings import Settings
from tasks.cycle.segments import segments

SMALL = Sizes(layers=2, width=32, vocabulary=97, prompt=12, responses=4, response=6)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    model = made_up_model.save(tmp_path_factory.mktemp("model"), SMALL)
    return settings_for(model, SMALL, prompts=4, steps=2)


def test_the_sides_are_measured_in_a_flow_of_their_own_process() -> None:
    pairs = in_fresh_process(SMALL, repeats=2, steps=1)
    assert [len(pair) for pair in pairs] == [2, 2]
    assert all(side > 0 for pair in pairs for side in pair)


def test_whole_rounds_and_their_parts_end_with_the_same_and_differences_are_seen(
    settings: Settings, tmp_path: Path
) -> None:
    prompts = made_up_model.prompts(SMALL, 4)
    with cycle_of(tmp_path, settings, prompts, SMALL) as cycle:
        run_rounds(cycle)
        examples = made_before(tmp_path / "before", settings, prompts, SMALL)
        parts = Parts(new_white_box(settings), settings, prompts, examples)
        for segment in segments(settings, 4):
            parts.run(segment)
        check_equal(cycle, parts)
        parts.white_box.optimize([examples[0]])
        with pytest.raises(RuntimeError, match="other weights"):
            check_equal(cycle, parts)
        del parts.sampled[3]
        with pytest.raises(RuntimeError, match="other tokens"):
            check_equal(cycle, parts)


def test_every_round_trains_on_as_many_tokens_as_it_says(settings: Settings, tmp_path: Path) -> None:
    prompts = made_up_model.prompts(SMALL, 4)
    box = new_white_box(settings)
    assert {len(box.encode_prompt(prompt, SMALL.response)) for prompt in prompts} == {SMALL.prompt}
    examples = made_before(tmp_path, settings, prompts, SMALL)
    assert sorted(examples) == [0, 1, 2, 3]
    assert all(len(one.responses) == SMALL.responses for one in examples.values())
    assert all(len(one.responses[-1]) == SMALL.response for one in examples.values())


def test_the_instant_judge_ranks_as_shown() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Rank these."}]}
    answer = InstantJudge(3, "Better.").answer(body)
    content = json.loads(answer["choices"][0]["message"]["content"])
    assert content == {"desired rank": [0, 1, 2], "response": "Better."}


def test_the_row_is_the_whole_in_terms_of_its_parts() -> None:
    row = row_of([(21.0, 20.0), (22.0, 20.0), (20.4, 20.0)], Sizes(), steps=10)
    assert row.values == pytest.approx((1.05, 1.1, 1.02))
    assert row.ratio == pytest.approx(1.05)
    assert (row.note or "").startswith("2.10 s against 2.00 s; 256 + 3·96 tokens, 8 layers · 512")
