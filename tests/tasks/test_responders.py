"""A chat-completions model as a system of the evaluation: what it is asked, and what counts as its response."""

from collections.abc import Iterator
from typing import Any

import pytest

from cyclealign.errors import UsageError
from cyclealign.records import Prompt, Turn
from cyclealign.sampling_settings import SamplingSettings
from cyclealign.settings import BlackBoxSettings
from storage.ledger import Ledger
from tasks.asking.channels import DirectChannel
from tasks.evaluation.responders import ApiResponder, Written, generation_parameters
from tests.serving import serving
from tests.tasks.evaluated import account, prompt
from tests.tasks.model_server import ModelServer
from tests.tasks.paid_calls import QUICK

SAMPLING = SamplingSettings(temperature=0.5, top_p=0.9, max_new_tokens=40)
DIALOGUE = Prompt.from_turns(
    "helpful-base", "test", [Turn("human", "Hi."), Turn("assistant", "Yes?"), Turn("human", "A fruit?")]
)


@pytest.fixture
def chatting() -> Iterator[ModelServer]:
    with serving(ModelServer(lambda body: f"An answer to {body['messages'][-1]['content']}")) as server:
        yield server


def responder(ledger: Ledger, server: ModelServer, **changes: Any) -> ApiResponder:
    with_whom = account(ledger, server, **changes)
    parameters = generation_parameters(with_whom.settings, SAMPLING, changes.get("max_tokens"))
    return ApiResponder(with_whom, DirectChannel(with_whom, QUICK), parameters, changes.get("system_prompt"))


def written(one: ApiResponder, *prompts: Prompt) -> list[Written]:
    return [found for batch in one.batches(prompts) for found in batch]


def test_a_dialogue_is_sent_turn_by_turn_under_the_evaluations_sampling(ledger: Ledger, chatting: ModelServer) -> None:
    (found,) = written(responder(ledger, chatting), DIALOGUE)
    assert (found.text, found.ended, found.tokens) == ("An answer to A fruit?", True, 20)
    (body,) = chatting.asked
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert {key: body[key] for key in ("temperature", "top_p", "max_tokens")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 40,
    }
    assert "response_format" not in body


def test_what_was_generated_once_is_not_bought_again(ledger: Ledger, chatting: ModelServer) -> None:
    prompts = [prompt(number) for number in range(5)]
    first = written(responder(ledger, chatting), *prompts)
    again = written(responder(ledger, chatting), *prompts)
    assert [one.text for one in again] == [one.text for one in first]
    assert len(chatting.asked) == 5


def test_a_refusal_is_a_response_and_a_cut_text_counts_as_it_is(ledger: Ledger, chatting: ModelServer) -> None:
    said = {"Question 0?": {"content": None, "refusal": "I will not."}}
    cut = {"content": "It goes on", "finish_reason": "length"}
    chatting.say = lambda body: said.get(body["messages"][-1]["content"], cut)
    refused, broken_off = written(responder(ledger, chatting), prompt(0), prompt(1))
    assert (refused.text, refused.ended) == ("I will not.", True)
    assert (broken_off.text, broken_off.ended) == ("It goes on", False)


def test_a_prompt_without_an_answer_is_left_out(ledger: Ledger, chatting: ModelServer) -> None:
    said: dict[str, Any] = {"Question 0?": {"content": " "}, "Question 1?": {"finish_reason": "content_filter"}}
    chatting.say = lambda body: said.get(body["messages"][-1]["content"], "Fine.")
    found = written(responder(ledger, chatting), prompt(0), prompt(1), prompt(2))
    assert [one.prompt for one in found] == [prompt(2)]


def test_the_identity_tells_model_endpoint_and_parameters_apart(ledger: Ledger, chatting: ModelServer) -> None:
    changes: list[dict[str, Any]] = [{}, {"model": "another"}, {"temperature": 0}, {"max_tokens": 7}, {"seed": True}]
    identities = [responder(ledger, chatting, **change).identity for change in changes]
    assert all(one not in identities[:place] for place, one in enumerate(identities))
    assert responder(ledger, chatting, concurrency=1).identity == identities[0]


def test_a_reasoning_model_gets_no_temperature_of_ours_and_may_set_its_own_limit() -> None:
    settings = BlackBoxSettings(model="gpt-5-mini")
    assert generation_parameters(settings, SAMPLING, 2000) == {"max_completion_tokens": 2000}
    with pytest.raises(UsageError, match="temperature"):
        generation_parameters(BlackBoxSettings(model="gpt-5-mini", temperature=1), SAMPLING)
