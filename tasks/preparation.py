"""Everything that has to be there before the first step: dialogues, samples, stand-ins; made once and reused."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from cyclealign.data.hh_rlhf import DialogueFolder, DialogueSource, load_from_hub
from cyclealign.errors import DataError
from cyclealign.extras import require_quantization
from cyclealign.offline.artifacts import WorldArtifacts, build_world_artifacts
from cyclealign.offline.preference import ALL, PreferenceArtifacts, build_preference, choose_pairs
from cyclealign.records import PreferencePair, Prompt
from cyclealign.settings import Settings
from cyclealign.white_box.loading import load_tokenizer, tokenizer_sha256
from cyclealign.white_box.prompt_format import find_format
from storage import dialogues, evaluations, samples
from storage.dialogues import PreparedDialogues, TokenCounter
from storage.sampling import Draw, draw_sample, load_pairs
from tasks.context import RunContext
from tasks.cycle.progress import say, stage
from tasks.evaluation.responders import EVALUATION_SEED
from tasks.models import StandIns, frozen_model, white_box_path


@dataclass(frozen=True)
class Prepared:
    """What a run works on."""

    dataset_digest: str
    training: tuple[Prompt, ...]
    """One step each, in this order."""
    evaluation: tuple[Prompt, ...]
    """The held-out prompts, the same for every run on this data."""
    stand_ins: StandIns


def prepare(context: RunContext) -> Prepared:
    """Make what is missing: the world, the filtered dialogues, the samples, the preference models; in this order.

    The cycle trains on no prompt that preference models are fitted on. A run that learns from another one's data works
    on exactly what that one was prepared with.
    """
    require_parts(context)
    if context.source is not None:
        return prepared_like(context, context.source)
    settings, data = context.settings, context.settings.data
    world = build_world(context) if data.source == "world" else None
    filtered = filter_dialogues(context, StandIns(world))
    train, test, taken = list[PreferencePair](), list[PreferencePair](), list[str]()
    if uses_preference_models(settings):
        train, test = (load_pairs(filtered.folder, split) for split in ("train", "test"))
        chosen = choose_pairs(train, test, settings.preference)
        taken = sorted(pair.prompt.prompt_id for pair in (*chosen.judge, *chosen.evaluation))
    wanted = Draw("training", settings.seed, data.prompts, allocation=data.allocation, excluded=tuple(taken))
    training = draw(context, filtered, wanted)
    wanted = Draw("evaluation", EVALUATION_SEED, per_subset=settings.evaluation.prompts_per_subset)
    evaluation = draw(context, filtered, wanted)
    preference = fit_preference(context, train, test) if uses_preference_models(settings) else None
    return Prepared(filtered.dataset_digest, training, evaluation, StandIns(world, preference))


def require_parts(context: RunContext) -> None:
    """What a run starts from is looked for before anything is built: first on this machine, then in a hub.

    Raises:
        DataError: files of dialogues are missing.
        ModelError: the white box is missing, or the model that preference models read, or a chat template
            cannot be used.
        UsageError: an extra that the settings need is not installed.
    """
    settings = context.settings
    require_quantization(settings.white_box)
    if settings.data.source == "folder":
        DialogueFolder(Path(settings.data.path), settings.data.subsets).files()
    if uses_preference_models(settings):
        frozen_model(settings, context.home)
    if settings.white_box.model != "world":
        find_format(settings.white_box, white_box_path(settings, context.home, StandIns()))


def uses_preference_models(settings: Settings) -> bool:
    """Whether the judge or the evaluation is a preference model on real pairs."""
    return "preference" in (settings.black_box.endpoint, settings.evaluation.reward_model)


def prepared_like(context: RunContext, source: RunContext) -> Prepared:
    """The data and prompts of the run's source; under another seed the training prompts come in another order."""
    prepared, ledger = prepare(source), context.ledger
    training, evaluation = (samples.of_run(ledger, source.name, purpose) or "" for purpose in samples.PURPOSES)
    if context.settings.seed != source.settings.seed:
        training = samples.reordered(ledger, training, prepared.dataset_digest, context.settings.seed)
    samples.use(ledger, context.name, "training", training)
    samples.use(ledger, context.name, "evaluation", evaluation)
    return replace(prepared, training=tuple(samples.read(ledger, training)))


@task(name="build world", cache_policy=NO_CACHE)
def build_world(context: RunContext) -> WorldArtifacts:
    """The dialogue world and its tiny models, trained on the spot where they are not there yet."""
    settings = context.settings
    with stage("Dialogue world and tiny models") as report:
        return build_world_artifacts(context.home, settings.world, settings.black_box.judge, report)


@task(name="filter dialogues", cache_policy=NO_CACHE)
def filter_dialogues(context: RunContext, stand_ins: StandIns) -> PreparedDialogues:
    """Load and filter the dialogues; every dropped pair is counted with its reason (Paper: Section 3.1, Table 6)."""
    data, ledger = context.settings.data, context.ledger
    tokens = token_counter(context, stand_ins) if data.max_prompt_tokens is not None else None
    prepared = dialogues.prepare(ledger, dialogue_source(context, stand_ins), data, tokens)
    table = dialogues.filter_counts(ledger, prepared.dataset_digest)
    read, kept = sum(row["rows_read"] for row in table), sum(row["pairs_kept"] for row in table)
    say(f"Dialogues: {kept} of {read} pairs kept" + (", reused" if prepared.reused else ""))
    for row in table:
        if data.source == "hub" and row["rows_read"] != row["paper_pairs"]:
            say(
                f"Warning: {row['subset']} {row['split']} has {row['rows_read']} pairs, the paper's Table 6 "
                f"{row['paper_pairs']}. This is another version of the data."
            )
    return prepared


def token_counter(context: RunContext, stand_ins: StandIns) -> TokenCounter:
    """The white box's tokenizer as a counter."""
    settings = context.settings
    tokenizer = load_tokenizer(settings.white_box, white_box_path(settings, context.home, stand_ins))

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    return TokenCounter(tokenizer_sha256(tokenizer), count)


def dialogue_source(context: RunContext, stand_ins: StandIns) -> DialogueSource:
    """Where the dialogues come from."""
    data = context.settings.data
    if data.source == "world":
        return DialogueFolder(stand_ins.world.data, data.subsets, name="world")
    if data.source == "folder":
        return DialogueFolder(Path(data.path), data.subsets)
    return load_from_hub(data.path, data.subsets)


def draw(context: RunContext, prepared: PreparedDialogues, wanted: Draw) -> tuple[Prompt, ...]:
    """The sample, noted as the run's: seeded and stratified; a run goes on with the prompts that it began with.

    The same prompts under another digest (another version filtered the files) are still the run's sample. Paper:
    Section 3.1.

    Raises:
        DataError: the files are others than those that the run's training began with.
    """
    ledger, run, purpose = context.ledger, context.name, wanted.purpose
    digest = draw_sample(ledger, prepared, wanted)
    drawn, before = tuple(samples.read(ledger, digest)), samples.of_run(ledger, run, purpose)
    began_with = drawn if before in (None, digest) else tuple(samples.read(ledger, before))
    if purpose == "training" and began_with != drawn:
        others = len({one.prompt_id for one in drawn} - {one.prompt_id for one in began_with})
        raise DataError(
            f"The dialogues are not those that run {run!r} began with: {others} of its {len(drawn)} prompts would be "
            "others. Expected the files of then: put them back, or start a run of another name."
        )
    samples.use(ledger, run, purpose, before if before and began_with == drawn else digest)
    return drawn


@task(name="fit preference models", cache_policy=NO_CACHE)
def fit_preference(context: RunContext, train: list[PreferencePair], test: list[PreferencePair]) -> PreferenceArtifacts:
    """The preference models on real pairs, fitted once; records how often each agrees with the annotators."""
    model = frozen_model(context.settings, context.home)
    with stage("Preference models on real pairs") as report:
        fitted = build_preference(context.home, model, train, test, context.settings.preference, report)
    evaluations.record_preference(context.ledger, fitted.accuracies, fitted.correlation)
    for one in fitted.accuracies:
        if one.subset == ALL:
            say(f"  {one.reward_model}: held-out pairwise accuracy {one.accuracy:.3f} (n = {one.pairs})")
    alike = fitted.correlation.correlation
    say(f"  correlation of the two on held-out pairs: {alike:.2f} (no independent witnesses)")
    return fitted


def filter_counts(context: RunContext, prepared: Prepared) -> list[dict[str, Any]]:
    """What the filter read, dropped and why, and kept, with the sizes of the paper's Table 6 beside."""
    counts = []
    for row in dialogues.filter_counts(context.ledger, prepared.dataset_digest):
        drops = sorted((row["drops"] or {}).items(), key=lambda drop: -drop[1])
        dropped = ", ".join(f"{reason} {pairs:,}" for reason, pairs in drops)
        before, after = ("subset", "split", "rows_read"), ("pairs_kept", "paper_pairs")
        counts.append({key: row[key] for key in before} | {"dropped": dropped} | {key: row[key] for key in after})
    return counts
