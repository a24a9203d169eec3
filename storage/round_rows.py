"""Rows of the ledger's tables from the values of a round, and back."""

from typing import Any

from cyclealign.method.demonstrations import AdmittedDemonstration, Demonstration
from cyclealign.records import Answer, LogProbability, Response, Unranked
from storage.round_values import RankedRound, RecordedRound, SampledRound, TrainedRound

Row = dict[str, Any]


def ranking_row(one: SampledRound | RankedRound, ranking: tuple[int, ...]) -> Row:
    """A ranking of a round's candidates."""
    return {"step": one.step, "round": one.round, "ranking": list(ranking)}


def sampled_row(one: SampledRound) -> Row:
    """The row of `rounds` of a round that was sampled."""
    return {
        "step": one.step,
        "round": one.round,
        "wave": one.wave,
        "prompt_id": one.prompt_id,
        "sampling_seconds": one.sampling_seconds,
        "scoring_seconds": one.scoring_seconds,
    }


def response_rows(one: SampledRound) -> list[Row]:
    """The rows of `responses` of a round's candidates."""
    return [
        {
            "step": one.step,
            "round": one.round,
            "slot": slot,
            "text": response.text,
            "tokens": list(response.tokens),
            "ended": response.ended,
            "log_probability": log_probability.total,
            "mean_log_probability": log_probability.mean,
            "white_box_rank": one.white_box_ranking.index(slot),
        }
        for slot, (response, log_probability) in enumerate(zip(one.responses, one.log_probabilities, strict=True))
    ]


def ranked_row(one: RankedRound) -> Row:
    """What `rounds` learns when a round was ranked, or could not be."""
    return {
        "step": one.step,
        "round": one.round,
        "state": "unranked" if one.answer is None else "ranked",
        "unranked_reason": one.unranked.reason if one.unranked else None,
        "unranked_detail": one.unranked.detail if one.unranked else None,
        "call_key": one.call_key,
        "asks": one.asks,
        "permutation": list(one.permutation),
        "agreement_length": None if one.answer is None else len(one.agreement),
        "stops_step": one.stops_step,
        "waiting_seconds": one.waiting_seconds,
    }


def demonstration_row(number: int, step: int | None, round_: int | None, demonstration: Demonstration) -> Row:
    """The row of `demonstrations`; the static one has neither step nor round."""
    return {
        "demonstration": number,
        "step": step,
        "round": round_,
        "instruction": demonstration.instruction,
        "responses": list(demonstration.responses),
        "ranking": list(demonstration.ranking),
    }


def recorded_round(row: Row) -> RecordedRound:
    """The round in a row of the query `rounds/recorded`."""
    return RecordedRound(
        sampled=_sampled(row),
        ranked=None if row["state"] == "sampled" else _ranked(row),
        trained=_trained(row) if row["state"] == "trained" else None,
    )


def _sampled(row: Row) -> SampledRound:
    found = row["responses"]
    return SampledRound(
        step=row["step"],
        round=row["round"],
        wave=row["wave"],
        prompt_id=row["prompt_id"],
        responses=tuple(Response(one["text"], tuple(one["tokens"]), one["ended"]) for one in found),
        log_probabilities=tuple(LogProbability(one["log_probability"], len(one["tokens"])) for one in found),
        white_box_ranking=tuple(row["white_box_ranking"]),
        sampling_seconds=row["sampling_seconds"],
        scoring_seconds=row["scoring_seconds"],
    )


def _ranked(row: Row) -> RankedRound:
    ranking, reason = row["black_box_ranking"], row["unranked_reason"]
    return RankedRound(
        step=row["step"],
        round=row["round"],
        answer=None if ranking is None else Answer(tuple(ranking), row["rewrite"]),
        unranked=None if reason is None else Unranked(reason, row["unranked_detail"]),
        call_key=row["call_key"],
        asks=row["asks"],
        permutation=tuple(row["permutation"]),
        demonstrations_shown=tuple(row["shown"] or ()),
        agreement=tuple(row["agreement"] or ()),
        stops_step=row["stops_step"],
        admitted=None if row["demonstration"] is None else admitted_demonstration(row),
        waiting_seconds=row["waiting_seconds"],
    )


def admitted_demonstration(row: Row) -> AdmittedDemonstration:
    """The dynamic demonstration in a row with the columns `demonstration` and `demonstration_…`."""
    demonstration = Demonstration(
        row["demonstration_instruction"], tuple(row["demonstration_responses"]), tuple(row["demonstration_ranking"])
    )
    return AdmittedDemonstration(row["demonstration"], row["step"], row["round"], demonstration)


def _trained(row: Row) -> TrainedRound:
    return TrainedRound(
        step=row["step"],
        round=row["round"],
        optimizer_step=row["optimizer_step"],
        loss=row["loss"],
        rank_loss=row["rank_loss"],
        sft_loss=row["sft_loss"],
        gradient_norm=row["gradient_norm"],
        learning_rate=row["learning_rate"],
        seconds=row["training_seconds"],
    )
