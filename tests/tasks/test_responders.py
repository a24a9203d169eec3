"""A chat-completions model as a system of the evaluation: what it is asked, and what counts as its response."""

from collections.abc import Sequence
from typing import Any

import pytest

from cyclealign.errors import UsageError
from cyclealign.records import Prompt, Turn
from cyclealign.settings import BlackBoxSettings, SamplingSettings
from storage.evaluations import Generation
from storage.ledger import Ledger
from tasks.asking.protocol import Direct
from tasks.asking.questions import Asker
from tasks.evaluation.responders import ApiResponder, generation_parameters
from tests.black_box.model_server import ModelServer
from tests.tasks.asked import QUICK, account, prompt

SAMPLING = SamplingSettings(temperature=0.5, top_p=0.9, max_new_tokens=40)
DIALOGUE = Prompt.from_turns(
    "helpful-base", "test", [Turn("human", "Hi."), Turn("assistant", "Yes?"), Turn("human", "A fruit?")]
)


@pytest.fixture
def chatting(server: ModelServer) -> ModelServer:
    """Answers the last message."""
    server.say = lambda body: f"An answer to {body['messages'][-1]['content']}"
    return server


def respond(
    ledger: Ledger, server: ModelServer, prompts: Sequence[Prompt] = (), **changes: Any
) -> tuple[list[Generation], dict[str, Any]]:
    """The responses of a system, and its identity."""
    asked = account(ledger, server, **changes)
    parameters = generation_parameters(asked.settings, SAMPLING, changes.get("max_tokens"))
    with Asker(Direct(asked, QUICK)) as asker:
        one = ApiResponder(asker, parameters, changes.get("system_prompt"))
        return [found for batch in one.batches(prompts, "s", {}) for found in batch], one.identity


def test_a_dialogue_is_sent_turn_by_turn_under_the_evaluations_sampling(ledger: Ledger, chatting: ModelServer) -> None:
    (found,), _ = respond(ledger, chatting, [DIALOGUE])
    assert (found.text, found.ended, found.tokens) == ("An answer to A fruit?", True, 20)
    (body,) = chatting.requests
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.9, 40)
    assert "response_format" not in body


def test_what_was_generated_once_is_not_bought_again(ledger: Ledger, chatting: ModelServer) -> None:
    prompts = [prompt(number) for number in range(5)]
    assert respond(ledger, chatting, prompts) == respond(ledger, chatting, prompts)
    assert len(chatting.requests) == 5


def test_a_refusal_is_a_response_a_cut_text_counts_as_it_is_and_silence_and_thoughts_are_none(
    ledger: Ledger, chatting: ModelServer
) -> None:
    said: list[dict[str, Any]] = [
        {"content": None, "refusal": "I will not."},
        {"content": "It goes on", "finish_reason": "length"},
        {"content": " "},
        {"content": "It was", "finish_reason": "content_filter"},
        {"content": "<think>Is it?</think>It is."},
        {"content": "<think>It goes on"},
    ]
    chatting.say = lambda body: said[int(body["messages"][-1]["content"][9])]
    found, _ = respond(ledger, chatting, [prompt(number) for number in range(6)])
    assert [(one.prompt_id, one.text, one.ended) for one in found] == [
        (prompt(0).prompt_id, "I will not.", True),
        (prompt(1).prompt_id, "It goes on", False),
        (prompt(4).prompt_id, "It is.", True),
    ]


def test_the_identity_tells_model_endpoint_and_parameters_apart(ledger: Ledger, chatting: ModelServer) -> None:
    changes: list[dict[str, Any]] = [{}, {"model": "another"}, {"temperature": 0}, {"max_tokens": 7}, {"seed": True}]
    identities = [respond(ledger, chatting, **change)[1] for change in changes]
    assert all(one not in identities[:place] for place, one in enumerate(identities))
    assert respond(ledger, chatting, concurrency=1)[1] == identities[0]


def test_a_reasoning_model_gets_no_temperature_of_ours_and_may_set_its_own_limit() -> None:
    settings = BlackBoxSettings(model="gpt-5-mini")
    assert generation_parameters(settings, SAMPLING, 2000) == {"max_completion_tokens": 2000}
    with pytest.raises(UsageError, match="temperature"):
        generation_parameters(BlackBoxSettings(model="gpt-5-mini", temperature=1), SAMPLING)
