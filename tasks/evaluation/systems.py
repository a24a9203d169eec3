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
from cyclealign.settings import BlackBoxSettings, Settings, WhiteBoxSettings
from cyclealign.white_box.loading import find_model
from cyclealign.white_box.white_box import WhiteBox
from tasks.asking.protocol import Account, account
from tasks.asking.questions import asker_of
from tasks.context import RunContext, existing_run
from tasks.cycle.sampling_server import sampling_by
from tasks.evaluation.comparison import JUDGE_CAP
from tasks.evaluation.publication import adapter_of
from tasks.evaluation.responders import ApiResponder, Responder, WhiteBoxResponder, generation_parameters
from tasks.models import StandIns, comparison_settings, local_model, white_box_path
from tasks.preparation import build_world


def evaluated_run(run: str, overrides: Mapping[str, Any]) -> RunContext:
    """A run as its evaluation sees it: with overrides of `evaluation`, and of how its calls are made.

    Raises:
        RunUnknown: there is no run of this name.
        ProfileInvalid: the settings do not validate.
        UsageError: an override would change what the run is.
    """
    context = existing_run(run)
    changed = {key: value for key, value in context.settings.model_dump(mode="json").items() if key != "profile"}
    settings = resolve(context.settings.profile, changed, overrides)
    _refuse_other_run(context.settings, settings)
    return replace(context, settings=settings)


def _refuse_other_run(before: Settings, after: Settings) -> None:
    same = after.model_copy(update={"evaluation": before.evaluation})
    if same.influential() != before.influential():
        raise UsageError(
            "The overrides change the run itself. Expected settings of the evaluation (evaluation.…), or of how calls "
            "are made (black_box.budget_usd, black_box.concurrency, …)."
        )


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


def _find_backbone(context: RunContext, system: ComparedSystem) -> None:
    if system.model == "world":
        if context.settings.data.source != "world":
            raise UsageError(
                f"System {system.label!r} is the untrained model of the dialogue world, which run {context.name!r} "
                "does not use. Expected a folder, a .gguf file or a hub name."
            )
        return
    try:
        find_model(_backbone_settings(context, system), _backbone_path(context, system))
        return
    except ModelError as error:
        problem = str(error)
    raise ModelError(f"System {system.label!r}: {problem}")


def check_judge(context: RunContext) -> None:
    """The same of the pairwise judge.

    Raises:
        UsageError: the profile names no judge, or there is a cap and no price to keep it by.
        RunPaused: the endpoint has no key.
    """
    settings = comparison_settings(context.settings)
    if settings.endpoint == "api":
        _check_account(account(context, settings, lambda: ChatEndpoint(settings), JUDGE_CAP))


def _check_account(account: Account) -> None:
    Prices(account.settings).require_price()
    account.open_endpoint().require_key()


@contextmanager
def responder_of(context: RunContext, system: ComparedSystem, stand_ins: StandIns) -> Iterator[Responder]:
    """The system, ready to respond within the block.

    Raises:
        ModelError: a model cannot be loaded.
    """
    if system.run is not None:
        yield _trained(existing_run(system.run), context.settings)
    elif system.model is not None:
        yield _backbone(context, system, stand_ins)
    elif system.api is not None:
        parameters = generation_parameters(system.api, context.settings.evaluation.sampling, system.max_tokens)
        asked = _account(context, system.label, system.api)
        with asker_of(asked, context.settings.evaluation.batches) as asker:
            yield ApiResponder(asker, parameters, system.system_prompt)


def _trained(other: RunContext, evaluating: Settings) -> WhiteBoxResponder:
    """Another run's model, under this evaluation's generation settings."""
    settings = other.settings
    stand_ins = StandIns(build_world(other) if settings.white_box.model == "world" else None)
    path = white_box_path(settings, other.home, stand_ins)
    white_box = WhiteBox.load_for_inference(settings.white_box, model_path=path, adapter=adapter_of(other))
    return WhiteBoxResponder(sampling_by(evaluating, white_box), True, evaluating.evaluation)


def _backbone(context: RunContext, system: ComparedSystem, stand_ins: StandIns) -> WhiteBoxResponder:
    """A model as it is, under the run's limits on length."""
    world = system.model == "world"
    path = str(stand_ins.world.white_box) if world else _backbone_path(context, system)
    white_box = WhiteBox.load_for_inference(_backbone_settings(context, system), model_path=path)
    return WhiteBoxResponder(sampling_by(context.settings, white_box), False, context.settings.evaluation)


def _backbone_path(context: RunContext, system: ComparedSystem) -> str:
    """A local path, or a name for the hub."""
    name = str(system.model)
    return str(local_model(name, context.home) or name)


def _backbone_settings(context: RunContext, system: ComparedSystem) -> WhiteBoxSettings:
    changed = {
        "model": str(system.model),
        "revision": system.revision,
        "prompt_format": system.prompt_format,
        "system_prompt": system.system_prompt,
    }
    return context.settings.white_box.model_copy(update=changed)


def _account(context: RunContext, label: str, settings: BlackBoxSettings) -> Account:
    return account(context, settings, lambda: ChatEndpoint(settings), f"api.budget_usd of system {label}")
