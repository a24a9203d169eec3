"""The systems that an evaluation compares with the run's own model: checked before anything is computed, then loaded.

Leaves out what they are (`cyclealign.compared_systems`) and what is done with them (`tasks.evaluation.generation`,
`tasks.evaluation.comparison`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.black_box.prices import Prices
from cyclealign.compared_systems import ComparedSystem, check_labels
from cyclealign.errors import ModelError, UsageError
from cyclealign.profiles import resolve
from cyclealign.settings import BlackBoxSettings, Settings
from cyclealign.white_box.loading import find_model
from cyclealign.white_box.white_box import WhiteBox
from tasks.asking.protocol import Account, account
from tasks.asking.questions import asker_of
from tasks.context import RunContext, existing_run
from tasks.cycle.sampling_server import sampling_by
from tasks.evaluation.comparison import JUDGE_CAP
from tasks.evaluation.publication import adapter_of
from tasks.evaluation.responders import ApiResponder, Responder, WhiteBoxResponder, generation_parameters
from tasks.models import StandIns, comparison_settings, white_box_path
from tasks.preparation import build_world


def evaluated_run(run: str, overrides: Mapping[str, Any]) -> RunContext:
    """A run as its evaluation sees it: with overrides of `evaluation`, and of how its calls are made.

    Raises:
        RunUnknown: there is no run of this name.
        ProfileInvalid: the settings do not validate.
        UsageError: an override would change what the run is.
    """
    context = existing_run(run)
    before = context.settings
    after = resolve(before.profile, before.model_dump(mode="json", exclude={"profile"}), overrides)
    if after.model_copy(update={"evaluation": before.evaluation}).influential() != before.influential():
        raise UsageError(
            "The overrides change the run itself. Expected settings of the evaluation (evaluation.…), or of how calls "
            "are made (black_box.budget_usd, black_box.concurrency, …)."
        )
    return replace(context, settings=after)


def check_systems(context: RunContext, systems: Sequence[ComparedSystem]) -> None:
    """Everything about the systems that can be wrong before a model is loaded.

    Raises:
        UsageError: a label stands twice, a run has no adapter, a parameter or a price is wrong, or there is no world.
        ModelError: there is no such folder or file, and no such name in the hub or its cache.
        RunPaused: an endpoint has no key.
    """
    check_labels(systems)
    for system in systems:
        if system.run is not None:
            adapter_of(existing_run(system.run))
        if system.model is not None:
            _find_backbone(context, system)
        if system.api is not None:
            generation_parameters(system.api, context.settings.evaluation.sampling, system.max_tokens)
            _check_account(_account(context, system.label, system.api))


def check_judge(context: RunContext) -> None:
    """The same of the pairwise judge.

    Raises:
        UsageError: the profile names no judge, or there is a cap and no price to keep it by.
        RunPaused: the endpoint has no key.
    """
    settings = comparison_settings(context.settings)
    if settings.endpoint == "api":
        _check_account(account(context, settings, lambda: ChatEndpoint(settings), JUDGE_CAP))


@contextmanager
def responder_of(context: RunContext, system: ComparedSystem, stand_ins: StandIns) -> Iterator[Responder]:
    """The system, ready to respond within the block, under the generation settings of this evaluation.

    Raises:
        ModelError: a model cannot be loaded.
    """
    evaluation = context.settings.evaluation
    if system.api is not None:
        parameters = generation_parameters(system.api, evaluation.sampling, system.max_tokens)
        with asker_of(_account(context, system.label, system.api), evaluation.batches, probing=False) as asker:
            yield ApiResponder(asker, parameters, system.system_prompt)
        return
    settings, adapter = _backbone(context, system), None
    if system.run is not None:
        other = existing_run(system.run)
        settings, adapter = other.settings, adapter_of(other)
        stand_ins = StandIns(build_world(other) if settings.white_box.model == "world" else None)
    path = white_box_path(settings, context.home, stand_ins)
    white_box = WhiteBox.load_for_inference(settings.white_box, model_path=path, adapter=adapter)
    yield WhiteBoxResponder(sampling_by(context.settings, white_box), adapter is not None, evaluation)


def _find_backbone(context: RunContext, system: ComparedSystem) -> None:
    settings = _backbone(context, system)
    if system.model == "world" and settings.data.source != "world":
        raise UsageError(
            f"System {system.label!r} is the untrained model of the dialogue world, which run {context.name!r} "
            "does not use. Expected a folder, a .gguf file or a hub name."
        )
    if system.model == "world":
        return
    try:
        find_model(settings.white_box, white_box_path(settings, context.home, StandIns()))
        return
    except ModelError as error:
        problem = str(error)
    raise ModelError(f"System {system.label!r}: {problem}")


def _backbone(context: RunContext, system: ComparedSystem) -> Settings:
    """The run's settings, limits on length included, with a model as it is for its white box."""
    changed = {
        "model": str(system.model),
        "revision": system.revision,
        "prompt_format": system.prompt_format,
        "system_prompt": system.system_prompt,
    }
    return context.settings.model_copy(update={"white_box": context.settings.white_box.model_copy(update=changed)})


def _account(context: RunContext, label: str, settings: BlackBoxSettings) -> Account:
    return account(context, settings, lambda: ChatEndpoint(settings), f"api.budget_usd of system {label}")


def _check_account(asked: Account) -> None:
    Prices(asked.settings).require_price()
    asked.open_endpoint().require_key()
