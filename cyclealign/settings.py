"""One frozen object with every setting of a run, read from a profile in `profiles/` and `--set` overrides.

Unknown keys are errors. Fields marked operational change how fast or how dearly a run proceeds, never its results:
they are left out of the digest that identifies a run's results, so they may change between resumptions.
Paper values stand in the comments of the profiles. Leaves out: secrets (the environment alone holds the key), and
reading and comparing profiles (`profiles`).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cyclealign.records import SUBSETS

SHORTEST_PROMPT = 8
"""Tokens that must be left for a prompt beside the longest response."""
EVALUATOR = "offline-evaluator"
"""What the name of the offline evaluator begins with."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def operational(default: Any) -> Any:
    """A field that does not influence results and so is no part of the settings digest."""
    return Field(default, json_schema_extra={"operational": True})


def added(default: Any) -> Any:
    """A field that influences results and came later: at its default it stays out of digests, so old ones hold."""
    return Field(default, json_schema_extra={"added": True})


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class DataSettings(Section):
    """Where the dialogues come from, how they are filtered and sampled (paper, Section 3.1)."""

    source: Literal["world", "folder", "hub"]
    """`world`: the generated dialogue world; `folder`: files in the hub's layout; `hub`: Anthropic/hh-rlhf."""
    path: str = "Anthropic/hh-rlhf"
    """Folder, or name of the data set on the hub."""
    subsets: Annotated[tuple[str, ...], Field(min_length=1)] = SUBSETS
    paragraphs: Literal["keep", "drop"] = "keep"
    """What happens to a paragraph that starts with neither speaker; `drop` is Open-Assistant's behaviour."""
    drop_identical: bool = True
    drop_empty: bool = True
    drop_duplicates: bool = True
    max_prompt_tokens: Annotated[int, Field(ge=8)] | None = None
    """Of training prompts; longer ones are dropped."""
    prompts: Count = 1000
    allocation: Literal["proportional", "equal"] = "proportional"


class SamplingSettings(Section):
    """How responses are drawn."""

    temperature: NotNegative = 1.0
    """0 means greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Count = 128
    engine: Literal["transformers", "compiled", "vllm"] = added("transformers")
    """`compiled`: one-token passes through torch.compile, for GPUs; sums are rounded otherwise, and compiling takes
    minutes for a large model. `vllm`: a server of that name draws, at `white_box.vllm`; its draws are others. So this
    influences results."""


class VllmSettings(Section):
    """The vLLM server of the white box's base model, started by hand: operational, whatever the engine."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$")] = "http://127.0.0.1:8000/v1"
    api_key_env: str = "VLLM_API_KEY"
    """Environment variable with the server's key; nothing is sent where it is not set."""
    timeout_s: Positive = 600.0
    """For all responses to a call's prompts, which are sent at once."""
    adapter_folder: str | None = None
    """Where adapters lie while the server has them loaded; None: the system's temporary folder.
    A server on another machine has to see this folder under the same path."""


class LoraSettings(Section):
    """The adapter; everything else stays frozen."""

    rank: Count = 8
    alpha: float = 16
    dropout: Fraction = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


class WhiteBoxSettings(Section):
    """The open model that is being aligned."""

    model: str
    """Hub name, local folder, or a `.gguf` file; `world` is the tiny model that the project trains itself."""
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    """`auto`: float32 on a CPU, bfloat16 on a GPU."""
    quantization: Literal["none", "nf4"] = added("none")
    """Of the frozen base model: `nf4` holds its linear layers in 4 bits and computes in `dtype` (QLoRA)."""
    device: Literal["auto", "cpu", "cuda"] = operational("auto")
    trust_remote_code: bool = False
    prompt_format: Literal["auto", "chat", "plain"] = "auto"
    """`chat`: the tokenizer's chat template; `plain`: HH-RLHF's own text; `auto`: chat where there is a template."""
    system_prompt: str | None = None
    """None: no system message; templates that add one of their own get an empty one where they allow it."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Prompt and response together, tokens; of longer prompts exchanges, then the middle of a text, are left out."""
    lora: LoraSettings = LoraSettings()
    sampling: SamplingSettings = SamplingSettings()
    vllm: VllmSettings = operational(VllmSettings())


class MethodSettings(Section):
    """The cycle itself (paper, Section 2)."""

    candidates: Annotated[int, Field(ge=2, le=9)] = 3
    rounds: Count = 5
    objective: Literal["rrhf", "pro", "none"] = "pro"
    """L_rank; `none` leaves SFT on y¹ alone."""
    sft_weight: NotNegative | None = None
    """λ; None: (candidates - 1)²."""
    rewrite: Literal["head", "sft_only", "off"] = "head"
    confidence: Literal["mean", "sum"] = "mean"
    icl: Literal["full", "static", "off"] = "full"
    demonstration_capacity: Whole = 5
    demonstration_scope: Literal["run", "step"] = "run"
    shuffle: bool = True
    drop_repeated: bool = True
    """Of candidates with identical text only the best-ranked takes part in L_rank."""

    @property
    def lambda_sft(self) -> float:
        """λ of Eq. 1; the paper sets (l - 1)² (Section 3.3)."""
        return float((self.candidates - 1) ** 2) if self.sft_weight is None else self.sft_weight


class TrainingSettings(Section):
    """The optimizer and the schedule of steps."""

    learning_rate: Positive = 5e-5
    warmup_steps: Whole = 0
    """Optimizer steps."""
    decay: Literal["constant", "linear"] = "constant"
    final_learning_rate_share: Fraction = 0.1
    weight_decay: NotNegative = 0.0
    clip_norm: Positive = 1.0
    prompts_per_optimizer_step: Count = 1
    """At most: they are of one wave, and rounds of it that could not be ranked train nothing."""
    gradient_checkpointing: bool = False
    engine: Literal["torch", "deepspeed"] = "torch"
    zero_stage: Literal[2, 3] = 2
    ranks: Count = operational(1)
    """Processes of this machine that share sampling and training, with a GPU each where there are GPUs."""
    wave: Count = 1
    """Prompts that go through their rounds together."""
    overlap: bool = False
    """Two waves alternate, so that one waits for answers while the other computes."""
    checkpoint_every: Count = 25
    """Steps, rounded up to whole waves; also the segment that is one Prefect task run."""
    max_loss: Positive = 1e4
    """A loss above this stops the run."""

    @property
    def partitioned(self) -> bool:
        """Whether each rank holds a part of every weight, and so runs every pass."""
        return self.engine == "deepspeed" and self.zero_stage == 3

    @property
    def examples(self) -> int:
        """Of an optimizer step: as many prompts as are asked for and a wave has."""
        return min(self.prompts_per_optimizer_step, self.wave)

    def idle_ranks(self) -> int:
        """Ranks for which an optimizer step has no example."""
        return max(0, self.ranks - self.examples)


class PriceSettings(Section):
    """US dollars per million tokens, for models that the price table does not know."""

    input: NotNegative
    output: NotNegative


class JudgeSettings(Section):
    """The offline judge: limited on purpose (docs/deviations.md)."""

    prior_pairs: Count = 30
    """Labelled pairs it has seen before the run."""
    drafts: Count = 4
    """Of which its writer picks the best by its own opinion."""
    noise: NotNegative = 1.0
    """Multiplies the posterior spread of each draw; 0 = always the posterior mean."""


class WorldSettings(Section):
    """The generated dialogue world and the tiny models trained in it (laptop profile): a minute on two cores."""

    seed: int = 0
    train_pairs: Count = 4000
    test_pairs: Count = 800
    pretraining_steps: Count = 1200
    writer_good_share: Fraction = 0.6
    """Of the replies that the judge's writer learns from: better than the white box, and far from perfect."""


class PreferenceSettings(Section):
    """Preference heads on a frozen pretrained model, fitted on disjoint halves of the training pairs."""

    model: str | None = None
    """The model whose states they read; None: the white box before alignment."""
    pairs_per_half: Count = 1000
    """Seven minutes of reading on two cores."""
    test_pairs: Count = 480
    judge_layer: Count = 16
    evaluation_layer: Count = 24
    """Of 30: other features than the judge's, so that the two are not one opinion."""
    prompt_tokens: Count = 112
    response_tokens: Count = 64
    """Most of what the profile's own limits let through; time grows with both."""


class BlackBoxSettings(Section):
    """The stronger model behind chat completions."""

    endpoint: Literal["world", "preference", "api"] = "api"
    """`world`, `preference`: the offline judges, served in-process over the same client; `api`: `base_url`."""
    base_url: Annotated[str, Field(pattern=r"^(?i:https?)://")] = "https://api.openai.com/v1"
    model: str = "offline-judge"
    api_key_env: str = operational("OPENAI_API_KEY")
    temperature: NotNegative | None = None
    """None: not sent (reasoning models refuse it)."""
    max_tokens: Count = 1024
    reasoning_effort: str | None = None
    json_mode: bool = True
    asks: Count = 3
    """Times one question is asked before its round is recorded as unranked."""
    seed: bool = False
    """Send a seed derived from run seed, step and round."""
    concurrency: Count | None = operational(None)
    """Calls at once, at most; None: all questions of the waves under way, and 8 for an evaluation."""
    timeout_s: Positive = operational(120.0)
    attempts: Count = operational(8)
    """Attempts at one ask in the face of transient failures."""
    budget_usd: NotNegative | None = operational(None)
    price: PriceSettings | None = operational(None)
    judge: JudgeSettings = JudgeSettings()


class PairwiseSettings(Section):
    """The judge that compares the responses of two systems (paper, Section 3.2, Table 2)."""

    endpoint: BlackBoxSettings | None = None
    """None: the offline evaluator beside `reward_model` (world, preference); other profiles have to name one."""
    order: Literal["both", "shuffled"] = "both"
    """`both`: each pair is asked in both orders, disagreement is a tie; `shuffled`: once, in a seeded order."""


class BatchSettings(Section):
    """The endpoint's Batch API for the calls of the evaluation: slower, and cheaper."""

    enabled: bool = operational(False)
    price_share: Fraction = operational(0.5)
    """Of the price of a call that is sent alone; OpenAI's is half. 1 where a provider gives no discount."""
    poll_s: Positive = operational(30.0)


class EvaluationSettings(Section):
    """The evaluation: systems on held-out prompts, under reward models and a pairwise judge."""

    reward_model: Literal["world", "preference", "classifier", "oasst"] = "classifier"
    reward_model_name: str = "OpenAssistant/oasst-rm-2-pythia-6.9b-epoch-1"
    prompts_per_subset: Count | None = None
    """None: all test prompts."""
    sampling: SamplingSettings = SamplingSettings(temperature=0.8)
    batch: Count = operational(32)
    cases: Count = operational(3)
    score_candidates: bool = operational(True)
    """Score all rounds' candidates: for the ranking accuracy (Figure 4) and the eye; may be made up for later."""
    score_during_training: bool = operational(True)
    """Score each segment's candidates when it is done, for the eye; else at the end, when the white box is gone."""
    judge: PairwiseSettings = PairwiseSettings()
    batches: BatchSettings = BatchSettings()

    @property
    def reward_model_beside(self) -> bool:
        """Whether the reward model is in memory beside the white box, and not only after it."""
        return self.score_candidates and self.score_during_training


class BaselineSettings(Section):
    """What `cyclealign baseline` does beside the settings of the run that it is compared with."""

    steps: Count | None = None
    """Optimizer steps; None: as many as that run took."""
    dpo_beta: Positive = 0.1
    """β of DPO: how dear it is to leave the model before training."""
    rl_beta: NotNegative = 0.05
    """Weight of the KL divergence from the model before training, inside the reward."""
    rl_clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """ε of PPO's clipped ratio."""
    rl_iterations: Count = 2
    """Optimizer steps on the same responses; with one, the ratio is always 1 and clips nothing."""


def fields_of(section: BaseModel, *, operational: bool) -> dict[str, Any]:
    """The fields of a section and those below it that are operational, or those that are not, as plain values."""
    kept: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        value, marks = getattr(section, name), info.json_schema_extra
        marks = marks if isinstance(marks, Mapping) else {}
        if "added" in marks and value == info.default:
            continue
        if isinstance(value, BaseModel) and "operational" not in marks:
            kept[name] = fields_of(value, operational=operational)
        elif ("operational" in marks) == operational:
            kept[name] = json.loads(json.dumps(value, default=BaseModel.model_dump))
    return kept


class Settings(Section):
    """Everything that defines a run besides its name."""

    profile: str
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    data: DataSettings
    white_box: WhiteBoxSettings
    method: MethodSettings = MethodSettings()
    training: TrainingSettings = TrainingSettings()
    black_box: BlackBoxSettings = BlackBoxSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    baseline: BaselineSettings = BaselineSettings()
    world: WorldSettings = WorldSettings()
    preference: PreferenceSettings = PreferenceSettings()

    @model_validator(mode="after")
    def _world_parts_belong_together(self) -> "Settings":
        uses = {
            "white_box.model": self.white_box.model,
            "black_box.endpoint": self.black_box.endpoint,
            "evaluation.reward_model": self.evaluation.reward_model,
        }
        astray = [key for key, value in uses.items() if value == "world"]
        if astray and self.data.source != "world":
            raise ValueError(f"{', '.join(astray)} = world needs data.source = world, found {self.data.source}")
        return self

    @model_validator(mode="after")
    def _prompts_have_room(self) -> "Settings":
        for name, sampling in (("white_box", self.white_box.sampling), ("evaluation", self.evaluation.sampling)):
            if (left := self.white_box.max_length - sampling.max_new_tokens) < SHORTEST_PROMPT:
                raise ValueError(
                    f"white_box.max_length = {self.white_box.max_length} leaves {left} tokens for a prompt beside "
                    f"{name}.sampling.max_new_tokens = {sampling.max_new_tokens}, expected at least {SHORTEST_PROMPT}"
                )
        return self

    @model_validator(mode="after")
    def _ranks_change_no_result(self) -> "Settings":
        if self.training.ranks > 1 and self.white_box.lora.dropout > 0:
            raise ValueError(
                f"training.ranks = {self.training.ranks} needs white_box.lora.dropout = 0, found "
                f"{self.white_box.lora.dropout}: each rank would drop other units, and results would depend on ranks"
            )
        return self

    @model_validator(mode="after")
    def _compiled_passes_need_whole_weights(self) -> "Settings":
        engines = (self.white_box.sampling.engine, self.evaluation.sampling.engine)
        if "compiled" in engines and self.white_box.quantization != "none":
            raise ValueError(
                f"sampling.engine = compiled needs white_box.quantization = none, found {self.white_box.quantization}"
            )
        if engines[0] == "compiled" and self.training.partitioned:
            raise ValueError(
                "white_box.sampling.engine = compiled needs training.zero_stage = 2, found 3: each rank would have "
                "parts of the weights"
            )
        return self

    def black_box_of_the_cycle(self) -> BlackBoxSettings:
        """The black box's settings; where they name no number of calls at once, one for all open questions."""
        concurrency = self.black_box.concurrency or self.training.wave * (2 if self.training.overlap else 1)
        return self.black_box.model_copy(update={"concurrency": concurrency})

    def digest(self) -> str:
        """Sixteen hexadecimal digits that change whenever a setting that influences results changes."""
        return hashlib.sha256(json.dumps(self.influential(), sort_keys=True).encode()).hexdigest()[:16]

    def influential(self) -> dict[str, Any]:
        """The settings that influence results, as nested plain values (operational ones left out)."""
        return fields_of(self, operational=False)

    def operational(self) -> dict[str, Any]:
        """The operational settings alone, as nested plain values."""
        return fields_of(self, operational=True)
