"""Everything that has to be there before the first step: dialogues, samples, stand-ins; made once and reused."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from cyclealign.data.hh_rlhf import DialogueFolder, DialogueSource, load_from_hub
from cyclealign.errors import DataError, ModelError
from cyclealign.extras import require_quantization
from cyclealign.offline.artifacts import WorldArtifacts, build_world_artifacts
from cyclealign.offline.preference import PreferenceArtifacts, build_preference, choose_pairs
from cyclealign.records import PreferencePair, Prompt
from cyclealign.settings import Settings
from cyclealign.white_box.loading import find_model, load_tokenizer, tokenizer_sha256
from storage import dialogues, evaluations, samples
from storage.dialogues import PreparedDialogues, TokenCounter
from storage.sampling import Draw, draw_sample, load_pairs
from tasks.context import RunContext
from tasks.cycle.progress import say, stage
from tasks.evaluation.responders import EVALUATION_SEED
from tasks.models import StandIns, frozen_model, judge_app, white_box_path

if TYPE_CHECKING:
    from starlette.applications import Starlette


@dataclass(frozen=True)
class Prepared:
    """What a run works on."""

    dataset_digest: str
    training: tuple[Prompt, ...]
    """One step each, in this order."""
    evaluation: tuple[Prompt, ...]
    stand_ins: StandIns


@dataclass(frozen=True)
class PreferenceData:
    """All pairs that preference models may be fitted and tested on."""

    train: list[PreferencePair]
    test: list[PreferencePair]


def prepare(context: RunContext) -> Prepared:
    """Make what is missing: the world, the filtered dialogues, the samples, the preference models; in this order.

    A run that learns from another one's data works on exactly what that one was prepared with.
    """
    require_parts(context)
    if context.source is not None:
        return prepared_like(context, prepare(context.source))
    world = build_world(context) if context.settings.data.source == "world" else None
    filtered = prepare_dialogues(context, StandIns(world))
    pairs = preference_data(context, filtered)
    training = draw_training(context, filtered, preference_prompts(context, pairs) if pairs else ())
    evaluation = draw_evaluation(context, filtered)
    preference = fit_preference(context, pairs) if pairs else None
    return Prepared(filtered.dataset_digest, training, evaluation, StandIns(world, preference))


def require_parts(context: RunContext) -> None:
    """What a run starts from is looked for before anything is built: first on this machine, then in a hub.

    Raises:
        DataError: files of dialogues are missing.
        ModelError: the white box is missing, or the model that preference models read.
        UsageError: an extra that the settings need is not installed.
    """
    settings = context.settings
    require_quantization(settings.white_box)
    if settings.data.source == "folder":
        DialogueFolder(Path(settings.data.path), settings.data.subsets).files()
    if uses_preference_models(settings):
        frozen_model(settings, context.home)
    if settings.white_box.model != "world":
        find_model(settings.white_box, white_box_path(settings, context.home, StandIns()))


def uses_preference_models(settings: Settings) -> bool:
    """Whether the judge or the evaluation is a preference model on real pairs."""
    return "preference" in (settings.black_box.endpoint, settings.evaluation.reward_model)


def prepared_like(context: RunContext, prepared: Prepared) -> Prepared:
    """The data and prompts of the run's source; under another seed the training prompts come in another order."""
    assert context.source is not None  # noqa: S101  asked by the caller
    digests = {one: samples.of_run(context.ledger, context.source.name, one) for one in samples.PURPOSES}
    training = digests["training"] or ""
    if context.settings.seed != context.source.settings.seed:
        training = samples.reordered(context.ledger, training, prepared.dataset_digest, context.settings.seed)
    samples.use(context.ledger, context.name, "training", training)
    samples.use(context.ledger, context.name, "evaluation", digests["evaluation"] or "")
    return replace(prepared, training=tuple(samples.read(context.ledger, training)))


@task(name="build world", cache_policy=NO_CACHE)
def build_world(context: RunContext) -> WorldArtifacts:
    """The dialogue world and its tiny models, trained on the spot where they are not there yet."""
    settings = context.settings
    with stage("Dialogue world and tiny models") as report:
        return build_world_artifacts(context.home, settings.world, settings.black_box.judge, report)


@task(name="filter dialogues", cache_policy=NO_CACHE)
def prepare_dialogues(context: RunContext, stand_ins: StandIns) -> PreparedDialogues:
    """Load and filter the dialogues; every dropped pair is counted with its reason (Paper: Section 3.1, Table 6)."""
    data, tokens = context.settings.data, None
    if data.max_prompt_tokens is not None:
        model = white_box_path(context.settings, context.home, stand_ins)
        tokens = token_counter(load_tokenizer(context.settings.white_box, model))
    prepared = dialogues.prepare(context.ledger, source(context, stand_ins), data, tokens)
    table = dialogues.compare_with_table_6(context.ledger, prepared.dataset_digest)
    read, kept = sum(row["rows_read"] for row in table), sum(row["pairs_kept"] for row in table)
    say(f"Dialogues: {kept} of {read} pairs kept" + (", reused" if prepared.reused else ""))
    if data.source == "hub":
        _warn_unlike_table_6(table)
    return prepared


def token_counter(tokenizer: Any) -> TokenCounter:
    """Counts tokens as the white box reads them."""
    return TokenCounter(
        tokenizer_sha256(tokenizer),
        lambda texts: [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]],
    )


def source(context: RunContext, stand_ins: StandIns) -> DialogueSource:
    """Where the dialogues are read from."""
    data = context.settings.data
    if data.source == "world":
        return DialogueFolder(stand_ins.world.data, data.subsets, name="world")
    if data.source == "folder":
        return DialogueFolder(Path(data.path), data.subsets)
    return load_from_hub(data.path, data.subsets)


def _warn_unlike_table_6(table: list[dict[str, Any]]) -> None:
    for row in table:
        if row["rows_read"] != row["paper_pairs"]:
            say(
                f"Warning: {row['subset']} {row['split']} has {row['rows_read']} pairs, the paper's Table 6 "
                f"{row['paper_pairs']}. This is another version of the data."
            )


def preference_data(context: RunContext, prepared: PreparedDialogues) -> PreferenceData | None:
    """The pairs for preference models, where the profile uses them."""
    if not uses_preference_models(context.settings):
        return None
    return PreferenceData(load_pairs(prepared.folder, "train"), load_pairs(prepared.folder, "test"))


def preference_prompts(context: RunContext, pairs: PreferenceData) -> tuple[str, ...]:
    """Ids of the prompts that preference models are fitted on, whatever the seed: the cycle trains on none of them."""
    chosen = choose_pairs(pairs.train, pairs.test, context.settings.preference)
    return tuple(sorted(pair.prompt.prompt_id for pair in (*chosen.judge, *chosen.evaluation)))


def draw_training(context: RunContext, prepared: PreparedDialogues, excluded: tuple[str, ...]) -> tuple[Prompt, ...]:
    """The run's training prompts, one step each: seeded and stratified (Paper: Section 3.1)."""
    data = context.settings.data
    wanted = Draw(
        "training", context.settings.seed, prompts=data.prompts, allocation=data.allocation, excluded=excluded
    )
    return _drawn(context, prepared, wanted)


def draw_evaluation(context: RunContext, prepared: PreparedDialogues) -> tuple[Prompt, ...]:
    """The held-out prompts, the same for every run on this data."""
    wanted = Draw("evaluation", EVALUATION_SEED, per_subset=context.settings.evaluation.prompts_per_subset)
    return _drawn(context, prepared, wanted)


def _drawn(context: RunContext, prepared: PreparedDialogues, wanted: Draw) -> tuple[Prompt, ...]:
    """The sample, noted as the run's; a run goes on with the prompts that it began with.

    The same prompts under another digest (the files are filtered by another version) are still the run's sample.

    Raises:
        DataError: the files are others than those that the run's training began with.
    """
    ledger, run, purpose = context.ledger, context.name, wanted.purpose
    digest = draw_sample(ledger, prepared, wanted)
    drawn, before = tuple(samples.read(ledger, digest)), samples.of_run(ledger, run, purpose)
    began_with = drawn if before in (None, digest) else tuple(samples.read(ledger, before))
    if began_with == drawn:
        samples.use(ledger, run, purpose, before or digest)
        return drawn
    if purpose == "training":
        others = len({one.prompt_id for one in drawn} - {one.prompt_id for one in began_with})
        raise DataError(
            f"The dialogues are not those that run {run!r} began with: {others} of its {len(drawn)} prompts would be "
            "others. Expected the files of then: put them back, or start a run of another name."
        )
    samples.use(ledger, run, purpose, digest)
    return drawn


@task(name="fit preference models", cache_policy=NO_CACHE)
def fit_preference(context: RunContext, pairs: PreferenceData) -> PreferenceArtifacts:
    """The preference models on real pairs and their held-out accuracies, fitted once."""
    model = frozen_model(context.settings, context.home)
    with stage("Preference models on real pairs") as report:
        fitted = build_preference(context.home, model, pairs.train, pairs.test, context.settings.preference, report)
    record_accuracies(context, fitted)
    return fitted


def record_accuracies(context: RunContext, fitted: PreferenceArtifacts) -> None:
    """Note how often each preference model agrees with the annotators, and how alike the two are."""
    by_model: dict[str, list[evaluations.PreferenceAccuracy]] = {}
    for one in fitted.accuracies:
        accuracy = evaluations.PreferenceAccuracy(one.subset, one.pairs, one.accuracy)
        by_model.setdefault(one.reward_model, []).append(accuracy)
    for name, accuracies in by_model.items():
        evaluations.put_preference_accuracies(context.ledger, name, accuracies)
        overall = next(one for one in accuracies if one.subset == "all")
        say(f"  {name}: held-out pairwise accuracy {overall.accuracy:.3f} (n = {overall.pairs})")
    judge, evaluation = by_model
    evaluations.put_preference_correlation(context.ledger, evaluation, judge, overall.pairs, fitted.correlation)
    say(f"  correlation of the two on held-out pairs: {fitted.correlation:.2f} (no independent witnesses)")


def filter_counts(context: RunContext, prepared: Prepared) -> list[dict[str, Any]]:
    """What the filter read, dropped and why, and kept, with the sizes of the paper's Table 6 beside."""
    dropped: dict[tuple[str, str], list[str]] = {}
    for one in dialogues.drops(context.ledger, prepared.dataset_digest):
        reasons = dropped.setdefault((one["subset"], one["split"]), [])
        reasons.append(f"{one['reason']} {one['pairs_dropped']:,}")
    return [
        {
            **{name: row[name] for name in ("subset", "split", "rows_read")},
            "dropped": ", ".join(dropped.get((row["subset"], row["split"]), [])),
            **{name: row[name] for name in ("pairs_kept", "paper_pairs")},
        }
        for row in dialogues.compare_with_table_6(context.ledger, prepared.dataset_digest)
    ]


def standalone_judge(settings: Settings, home: Path) -> "Starlette":
    """The profile's offline judge as an application, on what earlier runs built (the world is built if need be).

    Raises:
        ModelError: the profile has no judge of its own, or its preference models were not fitted yet.
    """
    if settings.black_box.endpoint == "world":
        with stage("Dialogue world and tiny models") as report:
            world = build_world_artifacts(home, settings.world, settings.black_box.judge, report)
        return judge_app(settings, home, StandIns(world))
    fitted = sorted((home / "preference").glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    if settings.black_box.endpoint == "preference" and not fitted:
        raise ModelError(
            f"No preference models below {home / 'preference'}. Expected those that a run of the profile fits; run "
            f"`cyclealign prepare --profile {settings.profile}` first."
        )
    preference = PreferenceArtifacts.read(fitted[-1].parent) if fitted else None
    return judge_app(settings, home, StandIns(preference=preference))
