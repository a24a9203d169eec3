"""Systems under comparison as they are written on the command line and in flow parameters."""

import pytest
from pydantic import ValidationError

from cyclealign.compared_systems import ComparedSystem, check_labels, parse_system
from cyclealign.errors import UsageError


def test_a_run_a_model_and_an_endpoint_are_told_by_their_kind() -> None:
    assert parse_system("PRO=run:pro-seed1").run == "pro-seed1"
    assert parse_system("LLaMA=model:/models/llama:7b").model == "/models/llama:7b"
    api = parse_system("ChatGPT=api:gpt-4.1-mini@http://127.0.0.1:8000/v1").api
    assert api is not None
    assert (api.model, api.base_url) == ("gpt-4.1-mini", "http://127.0.0.1:8000/v1")


def test_an_endpoint_without_an_address_is_the_default_one() -> None:
    api = parse_system("ChatGPT=api:gpt-4.1-mini").api
    assert api is not None
    assert api.base_url.startswith("https://api.openai.com")


@pytest.mark.parametrize("text", ["PRO", "PRO=", "PRO=run:", "PRO=weights:x", "=run:x", "after=run:x", "a/b=run:x"])
def test_anything_else_is_wrong_use_that_names_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="LABEL=run:NAME"):
        parse_system(text)


def test_unknown_keys_and_two_kinds_at_once_are_errors() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        ComparedSystem.model_validate({"label": "x", "run": "r", "temperature": 1})
    with pytest.raises(ValidationError, match="run and model"):
        ComparedSystem.model_validate({"label": "x", "run": "r", "model": "m"})


def test_a_label_stands_for_one_system() -> None:
    with pytest.raises(UsageError, match="'PRO'"):
        check_labels([parse_system("PRO=run:a"), parse_system("PRO=run:b")])
