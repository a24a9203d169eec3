"""Systems under comparison as they are written on the command line and in flow parameters."""

import pytest
from pydantic import ValidationError

from cyclealign.compared_systems import ComparedSystem, check_labels, parse_system
from cyclealign.errors import UsageError


def test_a_run_a_model_and_an_endpoint_are_known_by_their_kind() -> None:
    assert parse_system("PRO=run:pro-seed1").run == "pro-seed1"
    assert parse_system("LLaMA=model:/models/llama:7b").model == "/models/llama:7b"
    there, default = parse_system("A=api:gpt-4.1-mini@http://127.0.0.1:8000/v1").api, parse_system("B=api:gpt-4").api
    assert there is not None
    assert default is not None
    assert (there.model, there.base_url) == ("gpt-4.1-mini", "http://127.0.0.1:8000/v1")
    assert default.base_url.startswith("https://api.openai.com")


@pytest.mark.parametrize("text", ["PRO", "PRO=", "PRO=run:", "PRO=weights:x", "=run:x", "after=run:x", "a/b=run:x"])
def test_anything_else_is_wrong_use_that_names_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="LABEL=run:NAME"):
        parse_system(text)


@pytest.mark.parametrize(("changes", "said"), [({"temperature": 1}, "Extra inputs"), ({"model": "m"}, "run and model")])
def test_unknown_keys_and_two_kinds_at_once_are_errors(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ComparedSystem.model_validate({"label": "x", "run": "r", **changes})


def test_a_label_stands_for_one_system() -> None:
    with pytest.raises(UsageError, match="'PRO'"):
        check_labels([parse_system("PRO=run:a"), parse_system("PRO=run:b")])
