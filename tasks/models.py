"""From settings to live models: white box, endpoint of the black box, reward models. The only place that chooses.

Callers get objects behind the same few methods, whichever profile is run.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette

from cyclealign.black_box.endpoint import ChatEndpoint
from cyclealign.errors import ModelError, UsageError
from cyclealign.offline.artifacts import WorldArtifacts, build_world_artifacts
from cyclealign.offline.chat_server import create_app
from cyclealign.offline.judge import Evaluator, Judge
from cyclealign.offline.preference import PreferenceArtifacts, PreferenceRewardModel, load_preference_judge
from cyclealign.offline.tiny_models import WorldRewardModel
from cyclealign.offline.world import GroundTruth
from cyclealign.offline.world_judge import load_world_judge
from cyclealign.records import Prompt
from cyclealign.reward_models.oasst import OasstRewardModel
from cyclealign.reward_models.reward_model import ClassifierRewardModel, RewardModel
from cyclealign.settings import EVALUATOR, BlackBoxSettings, Settings
from cyclealign.white_box.device_memory import REWARDS, fitting
from tasks.cycle.progress import say, stage


class StandIns:
    """What was built for a run that needs no hub and no endpoint: the parts that its settings name, no others."""

    world: WorldArtifacts
    """The dialogue world."""
    preference: PreferenceArtifacts
    """The preference models on real pairs."""

    def __init__(self, world: WorldArtifacts | None = None, preference: PreferenceArtifacts | None = None) -> None:
        if world is not None:
            self.world = world
        if preference is not None:
            self.preference = preference


def local_model(name: str, home: Path) -> Path | None:
    """The folder or file that `name` means: a path, or a folder in the home's `models`; None for a hub name."""
    for path in (Path(name), home / "models" / name):
        if path.exists():
            return path
    return None


def white_box_path(settings: Settings, home: Path, stand_ins: StandIns) -> str:
    """Where the white box is loaded from: a local path, or a name for the hub."""
    name = settings.white_box.model
    if name == "world":
        return str(stand_ins.world.white_box)
    return str(local_model(name, home) or name)


def frozen_model(settings: Settings, home: Path) -> Path:
    """The pretrained model that the preference models read, by default the white box before alignment: a folder.

    Raises:
        ModelError: there is no such folder.
    """
    name = settings.preference.model or settings.white_box.model
    found = local_model(name, home)
    if found is None:
        raise ModelError(
            f"No model {name!r} at {home / 'models'} or as a path. Expected a local folder: the "
            f"offline judge reads the white box's own states. `make smollm2` installs smollm2-135m-instruct."
        )
    return found


def key_variables(settings: Settings) -> set[str]:
    """The environment variables that hold keys of the run's endpoints."""
    judge = settings.evaluation.judge.endpoint
    return {one.api_key_env for one in (settings.black_box, judge, settings.white_box.vllm) if one is not None}


def load_judge(settings: Settings, home: Path, stand_ins: StandIns) -> Judge:
    """The offline judge of the profile.

    Raises:
        ModelError: the profile asks an endpoint and has no judge of its own.
    """
    black_box = settings.black_box
    if black_box.endpoint == "world":
        return load_world_judge(stand_ins.world.judge, stand_ins.world.writer, black_box.judge)
    if black_box.endpoint == "preference":
        heads, model = stand_ins.preference.judge, frozen_model(settings, home)
        return load_preference_judge(heads, model, black_box.judge, settings.white_box.sampling.max_new_tokens)
    raise ModelError(
        f"Profile {settings.profile!r} asks {black_box.base_url}. Expected black_box.endpoint = world or preference "
        f"for a judge of our own."
    )


def standalone_judge(settings: Settings, home: Path) -> Starlette:
    """The profile's offline judge as a chat-completions application, on what earlier runs built.

    The world is built if need be.

    Raises:
        ModelError: the profile has no judge of its own, or its preference models were not fitted yet.
    """
    world, preference = None, None
    if settings.black_box.endpoint == "world":
        with stage("Dialogue world and tiny models") as report:
            world = build_world_artifacts(home, settings.world, settings.black_box.judge, report)
    elif settings.black_box.endpoint == "preference":
        fitted = sorted((home / "preference").glob("*/report.json"), key=lambda path: path.stat().st_mtime)
        if not fitted:
            raise ModelError(
                f"No preference models below {home / 'preference'}. Expected those that a run of the profile fits; run "
                f"`cyclealign prepare --profile {settings.profile}` first."
            )
        preference = PreferenceArtifacts.read(fitted[-1].parent)
    return create_app(load_judge(settings, home, StandIns(world, preference)), settings.black_box.model)


def ranking_endpoint(settings: Settings, home: Path, stand_ins: StandIns) -> Callable[[], ChatEndpoint]:
    """How an endpoint of the black box is opened: an API, or the offline judge in this process, loaded once."""
    black_box = settings.black_box
    if black_box.endpoint == "api":
        return lambda: ChatEndpoint(black_box)
    judge = load_judge(settings, home, stand_ins)
    return lambda: ChatEndpoint(black_box, create_app(judge, black_box.model))


def comparison_settings(settings: Settings) -> BlackBoxSettings:
    """The endpoint of the pairwise judge: the configured one, else the offline evaluator beside the reward model.

    Raises:
        UsageError: the profile has neither.
    """
    judge, beside = settings.evaluation.judge.endpoint, settings.evaluation.reward_model
    if judge is not None:
        return judge
    if beside in ("world", "preference"):
        return BlackBoxSettings(endpoint=beside, model=EVALUATOR)
    raise UsageError(
        f"Profile {settings.profile!r} names no judge to compare responses. Expected one, for example: --set "
        "evaluation.judge.endpoint.model=gpt-4.1 --set evaluation.judge.endpoint.budget_usd=5"
    )


def comparison_endpoint(
    settings: BlackBoxSettings, reward_model: RewardModel, prompts: Sequence[Prompt]
) -> tuple[BlackBoxSettings, Callable[[], ChatEndpoint]]:
    """The pairwise judge's settings and how its endpoint is opened: an API, or the offline evaluator in this process.

    The offline evaluator holds the opinion of `reward_model`, whose identity is part of its name.
    """
    if settings.endpoint == "api":
        return settings, lambda: ChatEndpoint(settings)
    named = settings.model_copy(update={"model": f"{EVALUATOR}:{reward_model.identity}"})
    evaluator = Evaluator(reward_model, prompts)
    return named, lambda: ChatEndpoint(named, create_app(evaluator, named.model))


def reward_models(settings: Settings, home: Path, stand_ins: StandIns) -> Sequence[RewardModel]:
    """What scores the evaluation, the one that the claim rests on first. None of them is used by the cycle."""
    if settings.evaluation.reward_model == "world":
        truths = (GroundTruth("quality"), GroundTruth("well-formedness"))
        return (WorldRewardModel(stand_ins.world.evaluation), *truths)
    if settings.evaluation.reward_model == "preference":
        return (PreferenceRewardModel(stand_ins.preference.evaluation, frozen_model(settings, home)),)
    with fitting(f"Loading {settings.evaluation.reward_model_name!r}", REWARDS):
        return (_published_reward_model(settings),)


def require_reward_model(settings: Settings) -> None:
    """A reward model of the hub or of a folder is fetched and looked at, and takes no memory yet.

    For flows that load it when everything is bought and trained, or answered.

    Raises:
        ModelError: it cannot be found, or is no reward model of its kind.
    """
    if settings.evaluation.reward_model in ("oasst", "classifier"):
        _published_reward_model(settings, device="meta")


def training_reward_model(settings: Settings, home: Path, stand_ins: StandIns) -> RewardModel:
    """What the RL baseline maximises; says so where the evaluation has no other."""
    if settings.evaluation.reward_model == "preference":
        return PreferenceRewardModel(stand_ins.preference.judge, frozen_model(settings, home))
    reward = reward_models(settings, home, stand_ins)[0]
    say(f"  {reward.identity} is optimised and evaluates too: its rewards say little, look at the others")
    return reward


def _published_reward_model(settings: Settings, device: str | None = None) -> RewardModel:
    kind = OasstRewardModel if settings.evaluation.reward_model == "oasst" else ClassifierRewardModel
    return kind(settings.evaluation.reward_model_name, device=device)
