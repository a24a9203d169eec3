"""What a chat completion's body says, read leniently."""

import pytest

from cyclealign.black_box.endpoint import read_reply
from cyclealign.errors import CallTransient


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ('"plain"', "plain"),
        ("null", None),
        ("7", None),
        ('[{"type": "thinking"}, {"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]', "in parts"),
        (r'"half a pair \ud83d"', "half a pair ?"),
        ('"raw \n newline"', "raw \n newline"),
    ],
    ids=["text", "null", "number", "parts", "half a surrogate pair", "control character"],
)
def test_content_is_read_leniently(content: str, read: str | None) -> None:
    assert read_reply(f'{{"choices": [{{"message": {{"content": {content}}}}}]}}').content == read


@pytest.mark.parametrize("usage", ["null", "7", '{"prompt_tokens": "many"}', '{"prompt_tokens": -1}'], ids=str)
def test_usage_that_is_none_reads_as_no_tokens(usage: str) -> None:
    reply = read_reply(f'{{"choices": [{{"message": {{}}}}], "usage": {usage}}}')
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    "raw",
    ["", " ", "[]", "7", "{", '{"choices": {}}', '{"choices": [7]}', "[" * 100_000, "<html>"],
    ids=lambda raw: raw[:9],
)
def test_a_body_without_a_choice_is_transient(raw: str) -> None:
    with pytest.raises(CallTransient) as caught:
        read_reply(raw)
    assert caught.value.raw == raw
    assert caught.value.billed
