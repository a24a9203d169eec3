"""Whether two runs ended the same: every row that a run computes, to the last bit of every number."""

from dataclasses import dataclass
from pathlib import Path

from storage.asking import answer

COLUMNS = {
    "rounds": (
        "step, round, wave, prompt_id, state, unranked_reason, asks, permutation, agreement_length, stops_step,"
        " optimizer_step, loss, rank_loss, sft_loss, gradient_norm, learning_rate"
    ),
    "rankings": "step, round, ranker, ranking",
    "pseudo_labels": "step, round, ranking",
    "demonstrations": "demonstration, kind, step, round, instruction, responses, ranking",
    "round_demonstrations": "step, round, position, demonstration",
    "responses": "step, round, slot, kind, text, tokens, log_probability, black_box_rank, white_box_rank",
    "response_rewards": "step, round, slot, reward_model, reward",
    "counted_pairs": "step, round, reward_model, pairs, black_box_right, white_box_right",
}
"""Everything but times, and keys that hold the endpoint's address."""
EVALUATION = """
    select role, prompt_id, text, reward_model, reward
    from evaluated_generations left join reward_scores using (generation_id)
    where run_name = '{name}'
"""


@dataclass(frozen=True)
class EndedRun:
    """A run and the home that it is in."""

    home: Path
    name: str

    def rows(self, table: str) -> list[str]:
        """The run's rows of a table as text, sorted; doubles are written so that none is mistaken for another."""
        selected = (
            EVALUATION.format(name=self.name)
            if table == "evaluation"
            else f"select {COLUMNS[table]} from {table} where run_name = '{self.name}'"
        )
        frame = answer(self.home, f"select one::varchar as line from ({selected}) one order by line")
        return list(frame["line"])


def differing_rows(one: EndedRun, other: EndedRun) -> dict[str, list[str]]:
    """By table, the rows that only one of the two has; none when they ended the same. An empty table is no proof of
    anything.

    Raises:
        AssertionError: neither has any rows in a table that every run fills.
    """
    pairs = {table: (one.rows(table), other.rows(table)) for table in (*COLUMNS, "evaluation")}
    assert pairs["rounds"][0], f"{one.name} has no rounds"
    return {table: sorted(set(ours) ^ set(theirs)) for table, (ours, theirs) in pairs.items() if ours != theirs}
