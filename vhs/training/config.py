"""Configurations of training and of evaluating a verifier; those of what makes the data are in data/tasks.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from vhs.config.keys import DeviceKey, Keys, Number, StatisticsKeys, TimeoutKey, statistics_conflicts
from vhs.config.yamlfile import combination_error
from vhs.device import resolve_device, resolve_precision
from vhs.paths import expanded
from vhs.verifiers.feature_names import PATTERN, blocks_in, hidden


def _side_by_side(value: Any) -> Any:
    """`[hidden_5, hidden_7]` is `hidden_5+7`, in the blocks' order."""
    if not isinstance(value, list):
        return value
    blocks = [block for one in value for block in blocks_in(str(one))]
    if len(blocks) < len(value) or len(set(blocks)) < len(blocks) or not blocks:
        raise PydanticCustomError(
            "feature", "hidden states of different blocks, as in [hidden_5, hidden_7], stand side by side; no others do"
        )
    return hidden(sorted(blocks))


Feature = Annotated[str, BeforeValidator(_side_by_side), Field(pattern=rf"^({PATTERN}|latent|clip)$")]
"""What a verifier reads: `hidden_7`, `hidden_5+7` (in YAML a list of both too), `latent` or `clip`."""
Weight = Annotated[Number, Field(gt=0)]
Dtype = Literal["bfloat16", "float16", "float32"]


class Generated(Keys):
    """Candidates whose features are made beside the training and are not stored."""

    generate: str = Field(min_length=1)
    """Collecting file (YAML) that names generator, prompts, candidates, blocks, seed and dtype."""
    overrides: list[str] = []
    """`key=value` texts over that file."""
    labels: str | None = None
    """File of verdicts; absent: the key `labels` inside the file's output folder."""
    captions: str | None = None
    """File of captions; absent: the key `captions` inside the file's output folder."""


def _sources(value: Any) -> Any:
    """`data: {generate: ...}` is a list of one; mappings in it are read here, so that a mistake in one is named."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return value
    try:
        return [Generated(**one) if isinstance(one, Mapping) else one for one in value]
    except (ValidationError, TypeError):
        keys = ", ".join(Generated.model_fields)
        raise PydanticCustomError(
            "source", "folders of collected sets, or mappings with generate (texts {keys}) are needed", {"keys": keys}
        ) from None


Sources = Annotated[list[str | Generated], BeforeValidator(_sources)]


class TrainConfig(TimeoutKey, StatisticsKeys):
    """train.py: one training stage."""

    stage: Literal["align", "finetune"]
    """`align`: the connector alone, on captions. `finetune`: connector and LLM, on yes and no."""
    name: str = Field(pattern=r"^[^/\\\s.][^/\\\s]*$")
    """Folder of this training under `output_path`."""
    output_path: str = Field("outputs/training", min_length=1)
    """Folder of all trainings."""

    # data
    data: Sources = Field(min_length=1)
    """Collected sets to train on; `{generate: <collecting file>, captions: <file>}`: features are made beside it."""
    eval_data: Sources = []
    """Sets to evaluate on; absent: `eval_fraction` of the prompts of `data`."""
    eval_fraction: Number = Field(0.05, ge=0, lt=1)
    """Share of the distinct prompts that is held out for the evaluation loss; 0: none."""
    fraction: Number = Field(1.0, gt=0, le=1)
    """Share of the training prompts that is used; smaller shares are inside larger ones."""
    decontaminate: bool = True
    """Leave out training prompts that are GenEval's own (or GenEval 2's, where data/geneval2_data.jsonl is there); they
    are listed in `left_out.jsonl`."""
    feature: Feature = "hidden_7"
    """What the verifier reads; a list of hidden states: several blocks side by side."""
    labels: str = "labels.jsonl"
    """File of verdicts inside each set (finetune)."""
    more_labels: str | None = None
    """File of verdicts on other prompts than a sample's own, inside each set (finetune); absent: none."""
    captions: str | None = "captions.jsonl"
    """File of captions inside each set (align); null: the prompt is the caption."""
    question: str | None = None
    """User message with <image> that a caption answers (align); null: LLaVA's plain form, picture then caption."""
    use_generation_prompt: bool = False
    """Close the chat with an empty assistant turn, as the run's key of the same name."""

    # model
    init: str = Field(min_length=1)
    """Where training starts: a causal LM (a fresh connector is added) or stage 1's verifier; folder or Hub id."""
    mm_projector_type: str = "mlp2x_gelu"
    """Type of a fresh connector."""
    vision_tower: str | None = None
    """For feature `clip`: the tower's Hub id, kept in the checkpoint."""
    clip_layer: int = -2
    """For feature `clip`: the tower's layer, kept in the checkpoint."""
    lora_rank: int | None = Field(None, ge=1, le=65536)
    """Train LoRA adapters of this rank instead of the LLM itself; they are merged into it when it is saved."""
    lora_alpha: Number = Field(16.0, gt=0)
    """Scale of the adapters, alpha / rank."""
    lora_dropout: Number = Field(0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    lora_targets: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    """Linear layers of the LLM that get an adapter."""

    # loss (finetune)
    loss: Literal["cross_entropy", "weighted_cross_entropy", "focal"] = "weighted_cross_entropy"
    """Loss on the answer's token."""
    weights: Literal["data"] | Annotated[list[Weight], Field(min_length=2, max_length=2)] = [0.37, 0.63]
    """[yes, no] weights of weighted_cross_entropy; `data`: each answer's is the other's share of the labels."""
    alpha: Number = Field(0.37, gt=0, lt=1)
    """Focal weight of yes; no has 1 - alpha."""
    gamma: Number = Field(2.0, ge=0)
    """Focal exponent."""
    reduction: Literal["mean", "weighted_mean"] = "mean"
    """Divide a batch's sum by its size, or by its sum of weights."""
    ranking: Number = Field(0.0, ge=0)
    """Weight of a Bradley-Terry loss on pairs of a right and a wrong candidate of a prompt, beside `loss`; 0: none."""
    ranking_group: int = Field(4, ge=2, le=65536)
    """With `ranking`: candidates of one prompt that stand together in a batch, and are compared with each other;
    `micro_batch` is a multiple of it."""

    # optimisation
    batch_size: int = Field(64, ge=1)
    """Samples in an optimiser step, over all processes and accumulation steps."""
    micro_batch: int = Field(64, ge=1)
    """Samples in one forward pass of one process."""
    epochs: Number = Field(1.0, gt=0)
    """Passes over the data."""
    max_steps: int | None = Field(None, ge=1)
    """Stop (and end the cosine) after so many steps."""
    learning_rate: Number = Field(2e-5, gt=0)
    """Peak of the cosine."""
    connector_learning_rate: Number | None = Field(None, gt=0)
    """Peak for the connector; absent: the same."""
    warmup_ratio: Number = Field(0.03, ge=0, lt=1)
    """Share of the steps in which the rate rises linearly."""
    weight_decay: Number = Field(0.0, ge=0)
    """AdamW's decay, on matrices only."""
    clip_norm: Number = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Order of the samples, fresh weights, dropout."""
    shuffle_buffer: int | None = Field(None, ge=1)
    """Read shard after shard, each whole, in a shuffled order, and shuffle the samples within about so many of them;
    absent: all samples are shuffled, for which the disk must seek."""
    streams: int | None = Field(None, ge=1, le=4096)
    """With `shuffle_buffer`: in how many streams shards are read, which the processes share; absent: 1."""

    # how it runs
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; weights and optimiser are float32. `auto`: bfloat16 where the device multiplies
    it in hardware, else float32; train.json says which it was."""
    save_dtype: Dtype = "bfloat16"
    """How the verifier's tensors are stored."""
    gradient_checkpointing: bool = False
    """Save memory: keep less of the forward pass and compute it again in the backward pass."""
    eval_every: int | None = Field(None, ge=1)
    """Steps between evaluations; absent: an epoch."""
    best_by: Literal["eval_loss", "eval_auc"] = "eval_loss"
    """The checkpoint is that of the evaluation with the lowest loss, or the highest AUC within a prompt."""
    save_every: int | None = Field(None, ge=1)
    """Steps between saved states; absent: an epoch."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of the log."""
    cont: bool = False
    """Go on from the last saved state; false: an unfinished training in the folder is an error."""
    overwrite: bool = False
    """Replace the training in the folder, whatever it is; the old one is kept until the new one is finished."""
    tracker: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Where curves are written besides log.jsonl."""

    @model_validator(mode="after")
    def _combinations(self) -> TrainConfig:
        for name, message in statistics_conflicts(self):
            raise combination_error(name, message)
        if self.feature == "clip" and not self.vision_tower:
            raise combination_error("vision_tower", "feature: clip needs the name of the tower that made the features")
        if self.question is not None and self.question.count("<image>") != 1:
            raise combination_error("question", "one <image> is needed in it, where the picture goes")
        for name, message in _streaming_conflicts(self):
            raise combination_error(name, message)
        if self.ranking and self.stage == "align":
            raise combination_error("ranking", "stage: align has no verdicts to rank by; use it with stage: finetune")
        if self.ranking and (self.micro_batch % self.ranking_group or self.batch_size % self.ranking_group):
            raise combination_error(
                "ranking_group",
                f"{self.ranking_group} does not divide micro_batch {self.micro_batch} and batch_size "
                f"{self.batch_size}; 2, 4 or 8 would, where they are multiples of it",
            )
        if self.best_by == "eval_auc" and (self.stage == "align" or not (self.eval_fraction or self.eval_data)):
            raise combination_error(
                "best_by", "eval_auc needs verdicts to evaluate on: stage: finetune and eval_fraction"
            )
        if self.stage == "align" and self.lora_rank is not None:
            raise combination_error(
                "lora_rank", "stage: align trains the connector alone; remove it, or use stage: finetune"
            )
        return self

    @property
    def folder(self) -> Path:
        return expanded(self.output_path) / self.name

    @property
    def arithmetic(self) -> str:
        """`precision`, with `auto` settled for the device that is here."""
        return resolve_precision(self.precision, resolve_device("auto"))

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks that are read; () for another feature."""
        return blocks_in(self.feature)


def _streaming_conflicts(config: TrainConfig) -> Iterable[tuple[str, str]]:
    if config.shuffle_buffer is None:
        if config.streams is not None:
            yield "streams", "belongs to shuffle_buffer, which is not given; leave it out, or give that"
        return
    if config.batch_size % (config.streams or 1):
        yield "streams", f"{config.streams} does not divide batch_size {config.batch_size}"
    if config.shuffle_buffer < (config.streams or 1):
        yield (
            "shuffle_buffer",
            f"{config.shuffle_buffer} is less than a sample for each of {config.streams} streams",
        )
    if config.ranking:
        yield "shuffle_buffer", "would part the candidates of a prompt that ranking compares; leave one of the two out"


class EvaluateConfig(DeviceKey, StatisticsKeys):
    """evaluate.py: a verifier on collected candidates that it was not trained on."""

    task: Literal["verdicts", "captions"] = "verdicts"
    """`verdicts`: how good its scores are. `captions`: what it says about a picture after stage 1 (paper, Figure 7)."""
    verifier: str | None = Field(None, min_length=1)
    """Verifier to evaluate: folder or Hub id."""
    verifiers: dict[Feature, str] = {}
    """Instead of `verifier` and `feature`: several collected features and the verifier of each. All are evaluated on
    the same candidates, and the cheapest feature within `margin` of the best is chosen."""
    margin: Number = Field(0.01, ge=0, le=1)
    """With `verifiers`: how far best-of-N may be behind the best one's, as a rate: 0.01 is one point."""
    data: list[str] = Field(min_length=1)
    """Collected sets with labels."""
    output: str = Field(min_length=1)
    """JSON file of the figures, or JSONL file of the captions."""
    overwrite: bool = False
    """Make the file again, whatever another evaluation has written there."""
    feature: Feature = "hidden_7"
    """What the verifier reads."""
    labels: str = "labels.jsonl"
    """File of verdicts inside each set."""
    use_generation_prompt: bool = False
    """As in training."""
    resize_vocabulary: bool = False
    """The release's vocabulary rule, for its own two checkpoints."""
    best_of: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4, 8], min_length=1)
    """N of the best-of-N curve; none above the number of candidates per prompt."""
    shuffle: bool = False
    """Control: give every candidate the features of another prompt's; the AUC within a prompt must fall to 0.5."""
    selection: Literal["argmax", "random_yes"] = "argmax"
    """`argmax`: the highest score. `random_yes`: any candidate whose answer is yes (the paper's "no scoring")."""
    limit: int | None = Field(None, ge=1)
    """Only the first prompts of each set; absent: all."""
    question: str | None = None
    """User message with <image> that the caption answers; null: the plain form."""
    max_tokens: int = Field(48, ge=1, le=8192)
    """Longest caption, tokens."""
    resamples: int = Field(2000, ge=100, le=1_000_000)
    """Bootstrap draws behind an interval."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the bootstrap, the shuffle and random_yes."""
    micro_batch: int = Field(64, ge=1)
    """Candidates in one forward pass."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision; `auto` is float32 on the CPU and bfloat16 elsewhere."""

    @model_validator(mode="after")
    def _combinations(self) -> EvaluateConfig:
        if (self.verifier is None) == (not self.verifiers):
            raise combination_error("verifier", "give `verifier`, or `verifiers` to choose among several features")
        if self.verifiers and self.task != "verdicts":
            raise combination_error("verifiers", "task: captions takes one `verifier`")
        if self.verifiers and self.normalization_mean_path:
            raise combination_error("normalization_mean_path", "with `verifiers` give their folder: `normalization`")
        for name, message in statistics_conflicts(self):
            raise combination_error(name, message)
        if self.question is not None and self.question.count("<image>") != 1:
            raise combination_error("question", "one <image> is needed in it, where the picture goes")
        return self

    def each(self) -> dict[str, EvaluateConfig]:
        """A configuration per feature of `verifiers`, of its verifier alone: for `a.json` into `a.<feature>.json`."""
        out = {}
        for feature, verifier in self.verifiers.items():
            output = Path(self.output)
            keys = {"verifiers": {}, "verifier": verifier, "feature": feature}
            keys["output"] = str(output.with_name(f"{output.stem}.{feature}{output.suffix}"))
            keys["normalization"] = self.normalization if blocks_in(feature) else None
            out[feature] = self.model_copy(update=keys)
        return out
