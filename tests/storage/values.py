"""Values that tests put into a ledger."""

from collections.abc import Sequence

import pandas as pd

from cyclealign.data.hh_rlhf import DialogueTable
from cyclealign.method.answers import Answer
from cyclealign.method.demonstrations import AdmittedDemonstration, Demonstration
from cyclealign.profiles import resolve
from cyclealign.records import LogProbability, PreferencePair, Prompt, Response, Split, Turn, Unranked
from cyclealign.settings import Settings
from storage.rounds import RankedRound, SampledRound, TrainedRound
from storage.runs import NewRun


def settings(rounds: int = 2) -> Settings:
    mapping = {"seed": 7, "data": {"source": "folder"}, "white_box": {"model": "some-model"}}
    return resolve("laptop", mapping, {"method": {"rounds": rounds, "candidates": 3}})


def new_run(name: str = "a-run", rounds: int = 2) -> NewRun:
    return NewRun(
        run_name=name,
        profile="laptop",
        seed=7,
        settings=settings(rounds).influential(),
        settings_digest=f"digest-{rounds}",
        operational_settings={"black_box": {"concurrency": 8}},
        steps=4,
        package_versions={"torch": "2.13.0"},
        machine={"cores": 2},
        git_commit="abc",
    )


def pair(text: str, subset: str = "harmless-base", split: Split = "train") -> PreferencePair:
    turns = (Turn("human", text), Turn("assistant", "Yes?"), Turn("human", "Go on."))
    return PreferencePair(Prompt.from_turns(subset, split, turns), f"{text} chosen", f"{text} rejected")


def sampled(step: int, round_: int = 1, wave: int = 0, run_name: str = "a-run") -> SampledRound:
    return SampledRound(
        run_name=run_name,
        step=step,
        round=round_,
        wave=wave,
        prompt_id=f"p{step}",
        responses=tuple(Response(f"text {slot} of {step}", (5, slot, 2), slot != 1) for slot in range(3)),
        log_probabilities=tuple(LogProbability(-0.1 - slot / 3, 3) for slot in range(3)),
        white_box_ranking=(0, 1, 2),
        sampling_seconds=0.25,
        scoring_seconds=0.125,
    )


def ranked(step: int, round_: int = 1, number: int | None = None, run_name: str = "a-run") -> RankedRound:
    demonstration = Demonstration("Human: hello\n\nAssistant:", ("worse", "better"), (1, 0))
    return RankedRound(
        run_name=run_name,
        step=step,
        round=round_,
        answer=Answer((0, 2, 1), f"rewrite of {step}"),
        unranked=None,
        call_key=f"key-{step}-{round_}",
        asks=1,
        permutation=(2, 0, 1),
        demonstrations_shown=(0, 3, 1),
        agreement=(0, 2),
        stops_step=round_ == 2,
        admitted=None if number is None else AdmittedDemonstration(number, step, round_, demonstration),
        waiting_seconds=1.5,
    )


def unranked(step: int, round_: int = 1, run_name: str = "a-run") -> RankedRound:
    return RankedRound(
        run_name=run_name,
        step=step,
        round=round_,
        answer=None,
        unranked=Unranked("malformed", "three answers, none a permutation"),
        call_key=None,
        asks=3,
        permutation=(0, 1, 2),
        demonstrations_shown=(),
        agreement=(),
        stops_step=round_ == 2,
        admitted=None,
        waiting_seconds=4.0,
    )


def trained(step: int, round_: int = 1, loss: float = 1 / 3, run_name: str = "a-run") -> TrainedRound:
    return TrainedRound(
        run_name=run_name,
        step=step,
        round=round_,
        optimizer_step=step,
        loss=loss,
        rank_loss=0.1,
        sft_loss=0.7,
        gradient_norm=2.5,
        learning_rate=5e-5,
        seconds=0.5,
    )


def dialogue_table(rows: Sequence[tuple[str, ...]], revision: str = "1") -> DialogueTable:
    return DialogueTable("hub", pd.DataFrame(rows, columns=["subset", "split", "chosen", "rejected"]), revision)
