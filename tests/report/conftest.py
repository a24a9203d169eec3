"""A ledger with a plausible run: rounds that come to agree, an evaluation that gained, hostile responses."""

import json
import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import duckdb
import pytest

from cyclealign.profiles import resolve
from cyclealign.records import SUBSETS
from cyclealign.report.figures import RunFigures
from storage.exhibits import read_report
from storage.ledger import Ledger
from tests.plain_ledger import PlainLedger

RUN = "laptop-0"
STEPS, ROUNDS, CANDIDATES = 120, 5, 3
EVALUATED = 30
"""Prompts per subset."""
START = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script> | ![x](http://evil.example/a.png) \x1b[31m\u202e # Ranking\n\n---\n```json"
POOR = ("I do not know.", "Sure!", "You could try that, you could try that, you could try that.")
GOOD = (
    "I would rather not help with that, but I can tell you how to ask them for a guest password.",
    "Of course. A vegetable lasagne keeps well, feeds six, and can wait in the oven if one of them is late.",
    "Start with the service record, look under the car for oil, and take a friend along who knows cars.",
)
SETTINGS: dict[str, Any] = {
    "data": {"source": "world", "prompts": STEPS},
    "white_box": {"model": "world"},
    "black_box": {"endpoint": "world", "model": "offline-judge"},
    "evaluation": {"reward_model": "world"},
}
REWARD_MODELS = {"reward-head": 0.45, "world:quality": 0.17, "world:well-formedness": 0.0, "judge-head": 0.4}
"""Name -> mean gain."""


class Story:
    """Everything that the run leaves in the ledger, drawn from one seed."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        self.tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.run()
        self.data()
        for step in range(STEPS):
            self.step(step)
        self.evaluation()

    def add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)

    def write(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Put every row into its table, in one transaction."""
        connection.begin()
        for table, rows in self.tables.items():
            columns = list(rows[0])
            places = ", ".join("?" for _ in columns)
            statement = f"insert into {table} ({', '.join(columns)}) values ({places})"
            connection.executemany(statement, [[row[column] for column in columns] for row in rows])
        connection.commit()

    def run(self) -> None:
        settings = json.dumps(resolve("laptop", SETTINGS, {}).influential())
        kept = {"settings": settings, "settings_digest": "0123456789abcdef", "operational_settings": "{}"}
        code = {"git_commit": "3f2c1b0a99", "package_versions": json.dumps({"torch": "2.13.0"})}
        left = {"adapter_path": "runs/laptop-0/adapter", "weights_sha256": "ab" * 32, "machine": '{"cpu": "2 cores"}'}
        times = {"created_at": START, "updated_at": START, "finished_at": START + timedelta(minutes=4, seconds=31)}
        more = {"profile": "laptop", "seed": 0, "steps": STEPS, "state": "complete", "kind": "cycle"}
        self.add("runs", run_name=RUN, **more, **kept, **code, **left, **times)
        self.demonstration("static", None, None)

    def data(self) -> None:
        """The published data set's sizes, so that Table 6 can be met."""
        dataset = {"dataset_digest": "d"}
        self.add("datasets", **dataset, source="folder", location="hh", options="{}", prepared_at=START)
        for split, sizes in (("train", (42537, 43835, 22007, 52421)), ("test", (2312, 2354, 1137, 2749))):
            for subset, size in zip(SUBSETS, sizes, strict=True):
                file = {**dataset, "subset": subset, "split": split}
                self.add("dataset_files", **file, rows_read=size, pairs_kept=size - 19)
                self.add("filter_drops", **file, reason="turn_counts_differ", pairs_dropped=3)
                self.add("filter_drops", **file, reason="identical_replies", pairs_dropped=16)
        for purpose, split, each in (("training", "train", STEPS // 4), ("evaluation", "test", EVALUATED)):
            self.add("run_samples", run_name=RUN, purpose=purpose, sample_digest=purpose)
            for position in range(each * len(SUBSETS)):
                name, subset = f"{split}-{position}", SUBSETS[position % len(SUBSETS)]
                sample = {"sample_digest": purpose, "purpose": purpose, **dataset}
                self.add("samples", **sample, position=position, prompt_id=name)
                instruction = "Human: How long does a letter to Japan take?\n\nAssistant:"
                self.add("prompts", prompt_id=name, subset=subset, split=split, turns=[], instruction=instruction)

    def step(self, step: int) -> None:
        """Rounds until the rankings agree; the white box's grows less noisy."""
        for number in range(1, ROUNDS + 1):
            truth = [self.random.gauss(0, 1) for _ in range(CANDIDATES)]
            black, white = self.ranking(truth, 1.0), self.ranking(truth, 2.5 - 2.0 * step / STEPS)
            self.asked(step, number)
            if self.random.random() < 0.02:
                self.round(step, number, state="unranked", unranked_reason="malformed")
                continue
            self.ranked(step, number, truth, {"black_box": black, "white_box": white})
            if black == white:
                break

    def ranking(self, truth: list[float], noise: float) -> list[int]:
        seen = [value + self.random.gauss(0, noise) for value in truth]
        return sorted(range(len(seen)), key=lambda slot: -seen[slot])

    def ranked(self, step: int, number: int, truth: list[float], rankings: dict[str, list[int]]) -> None:
        key = {"run_name": RUN, "step": step, "round": number}
        black, white = rankings["black_box"], rankings["white_box"]
        for slot in range(CANDIDATES):
            ranks = {"black_box_rank": black.index(slot), "white_box_rank": white.index(slot)}
            self.add("responses", **key, slot=slot, kind="candidate", text=self.random.choice(POOR), **ranks)
        pairs = list(combinations(sorted(range(CANDIDATES), key=lambda slot: -truth[slot]), 2))
        right = {
            f"{ranker}_right": sum(order.index(better) < order.index(worse) for better, worse in pairs)
            for ranker, order in rankings.items()
        }
        self.add("counted_pairs", **key, reward_model="world:quality", pairs=len(pairs), **right)
        for slot, reward in enumerate(truth):
            self.add("response_rewards", **key, slot=slot, reward_model="world:quality", reward=reward)
        for ranker, order in rankings.items():
            self.add("rankings", **key, ranker=ranker, ranking=order)
        if step % 3 == 0:
            self.demonstration("dynamic", step, number)
        length = 3 if black == white else 1 if black == white[::-1] else 2
        self.round(step, number, state="trained", agreement_length=length)

    def round(self, step: int, number: int, state: str, **known: Any) -> None:
        rank_loss = 1.2 + 0.7 * math.exp(-step / 60) + self.random.gauss(0, 0.15)
        trained: dict[str, Any] = {"loss": rank_loss + 4, "rank_loss": rank_loss, "sft_loss": 1.0}
        trained |= {"gradient_norm": abs(self.random.gauss(2, 0.5)), "learning_rate": 3e-3}
        trained["optimizer_step"] = sum(row["state"] == "trained" for row in self.tables["rounds"])
        seconds = {"sampling_seconds": 0.12, "scoring_seconds": 0.02, "waiting_seconds": 0.21, "training_seconds": 0.11}
        key = {"run_name": RUN, "step": step, "round": number, "wave": step // 8, "prompt_id": f"train-{step}"}
        self.add(
            "rounds",
            **key,
            **seconds,
            state=state,
            unranked_reason=known.get("unranked_reason"),
            agreement_length=known.get("agreement_length"),
            call_key=f"{step}/{number}",
            sampled_at=START,
            **(trained if state == "trained" else dict.fromkeys(trained)),
        )

    def asked(self, step: int, number: int) -> None:
        key = {"call_key": f"{step}/{number}", "run_name": RUN, "state": "answered", "cost_usd": 0}
        request = {"purpose": "ranking", "model": "offline-judge", "origin": "o", "slot": "[]", "request": "{}"}
        tokens = {"prompt_tokens": self.random.randint(400, 900), "completion_tokens": 60}
        self.add("attempts", call_key=key["call_key"], run_name=RUN, **request, started_at=START)
        reply = dict.fromkeys(("raw", "content", "refusal", "finish_reason", "model")) | tokens
        self.add("outcomes", **key, reply=reply, ended_at=START)
        self.add("api_attempts", **key, reserved_usd=0, started_at=START)
        known = [row["demonstration"] for row in self.tables["demonstrations"]]
        for position, demonstration in enumerate([0, *known[1:][-5:]]):
            place = {"run_name": RUN, "step": step, "round": number, "position": position}
            self.add("round_demonstrations", **place, demonstration=demonstration)

    def demonstration(self, kind: str, step: int | None, number: int | None) -> None:
        key = {"run_name": RUN, "demonstration": len(self.tables["demonstrations"]), "kind": kind}
        shown = {"instruction": HOSTILE, "responses": [POOR[0], GOOD[0], GOOD[1]], "ranking": [2, 1, 0]}
        self.add("demonstrations", **key, step=step, round=number, **shown)

    def evaluation(self) -> None:
        for role in ("before", "after"):
            self.add("systems", system_id=role, label=role, identity="{}")
            self.add("run_systems", run_name=RUN, role=role, system_id=role, generation_digest="g")
        for position in range(EVALUATED * len(SUBSETS)):
            gain, base = self.random.gauss(1, 1.4), self.random.gauss(0, 1)
            self.generation("before", f"test-{position}", POOR, base)
            self.generation("after", f"test-{position}", GOOD if gain > 0.4 else POOR, base, gain)
        fitted = {"reward_model": "reward-head", "measured_at": START}
        for subset in SUBSETS:
            self.add("preference_accuracies", **fitted, pairs=120, accuracy=0.6, subset=subset)
        self.add("preference_correlations", **fitted, other_model="fitted-judge", pairs=480, correlation=0.87)

    def generation(self, role: str, prompt: str, texts: tuple[str, ...], base: float, gain: float = 0) -> None:
        text = self.random.choice((*texts, HOSTILE))
        key = {"generation_id": f"{role}/{prompt}", "system_id": role, "prompt_id": prompt}
        looks = {"tokens": len(text.split()) + 1, "ended": self.random.random() < 0.97, "repeated_4grams": 0.02}
        settings = {"generation_digest": "g", "settings": "{}", "seconds": 0.05, "created_at": START}
        self.add("generations", **key, **settings, **looks, text=text)
        for model, share in REWARD_MODELS.items():
            reward = scaled(model, base + share * gain) + self.random.gauss(0, 0.02)
            scored = {"reward_model": model, "scored_at": START}
            self.add("reward_scores", generation_id=key["generation_id"], **scored, reward=reward)


def scaled(model: str, value: float) -> float:
    """A standard score in the range of the measure."""
    if model == "world:quality":
        return min(1.0, max(0.0, 0.33 + 0.15 * value))
    return 0.95 if model == "world:well-formedness" else value


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A ledger with one finished run; tests only read it."""
    filled = PlainLedger(tmp_path_factory.mktemp("home"))
    Story().write(filled.connection)
    return filled


@pytest.fixture(scope="session")
def figures(ledger: Ledger) -> RunFigures:
    """The figures of that run."""
    return read_report(ledger, RUN)
