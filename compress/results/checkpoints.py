"""What the stages that write a checkpoint return: `finetune`, `distill`, `prune`, `factorize` and `share`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from compress.results.values import Interval, LayerDocument, Metrics


class TrainingDocument(TypedDict):
    """What a training run did."""

    mode: NotRequired[str]
    """Mode of `finetune`: `full`, `frozen`, `lora` or `adapter`."""
    trained_params: NotRequired[int]
    """Parameters that were trained (`finetune`)."""
    trained_share: NotRequired[float]
    """Their share of all parameters during training, the factors of `lora` included (`finetune`)."""
    epochs: float
    """Epochs that were run; with `budget` not always a whole number."""
    steps: int
    """Optimizer steps that were run."""
    best_epoch: int
    """The epoch whose weights were kept."""
    loss: float
    """Mean training loss of the last epoch."""
    score: float | None
    """Main metric of the kept epoch on validation."""
    precision: str
    """Precision of the forward pass: `fp32` or `bf16`."""
    seconds: float
    """Wall time of the training; with `budget` that of the stage up to its end."""
    layer_stage: NotRequired[TrainingDocument]
    """The first stage, which trains on the losses of layers alone (`distill` with `layer_epochs`)."""


class Spread(TypedDict):
    """How far a metric varies with the seed."""

    mean: float
    """Mean over the seeds."""
    std: float | None
    """Sample standard deviation."""
    min: float
    """Smallest value."""
    max: float
    """Largest value."""
    n: int
    """Seeds."""


class ChosenSeeds(TypedDict):
    """Which seeds `NAME/best` and `NAME/median` stand for."""

    metric: str
    """The metric that ranks the seeds."""
    best: str
    """Folder of the seed with the best score."""
    median: str
    """Folder of the seed with the median score."""


class SeedDocument(TypedDict):
    """One model of several that were trained with different seeds."""

    folder: str
    """Its folder within the output."""
    seed: int
    """Its seed."""
    metrics: dict[str, Metrics]
    """Its metrics by split."""
    training: TrainingDocument
    """What its training did."""
    params: int
    """Its parameters."""
    layers: list[LayerDocument]
    """Its layers."""


class TrainedDocument(TypedDict):
    """What `finetune` and `distill` return."""

    metrics: dict[str, Metrics]
    """Metrics by split. `distill` adds `before`: the main metric before training; with `quantize` also `float`: that without int8."""
    training: TrainingDocument
    """What the training did."""
    params: int
    """Parameters of the model, embeddings and head included."""
    layers: list[LayerDocument]
    """The layers of the encoder."""
    seeds: NotRequired[dict[str, dict[str, Spread]]]
    """With `seeds`: the spread of each metric by split."""
    chosen: NotRequired[ChosenSeeds]
    """With `seeds`: the metric that ranks them, and the folders of the best and the median one."""
    models: NotRequired[list[SeedDocument]]
    """With `seeds`: one entry for each seed."""


class MeasuredPoint(TypedDict):
    """How a pruned model was timed."""

    runtime: str
    """Runtime that was timed."""
    precision: str
    """Precision that was timed."""
    threads: int
    """Threads."""
    batch_size: int
    """Texts in a batch."""
    seq_len: int
    """Tokens of a text."""
    ci95: Interval
    """95 % interval of `measured_speedup`."""
    latency_ms: float
    """Latency of the pruned model in milliseconds."""


class CurvePoint(TypedDict):
    """A model on the way to the target."""

    predicted_speedup: float
    """Speedup that the costs predicted before the model was timed."""
    score: float
    """Main metric on validation (of a quick validation on its first examples for models on the way)."""
    layers: list[LayerDocument]
    """Its layers."""
    measured_speedup: NotRequired[float]
    """Measured speedup, for the models that reached a target."""
    target: NotRequired[str]
    """The name of the target that it reached."""


class PrunedModel(TypedDict):
    """A pruned model and what is known about it."""

    folder: NotRequired[str]
    """Its folder, relative to the output if there are several targets."""
    target: dict[str, float]
    """The target (`time`, `flops` or `params`) and `seq_len`, the length in tokens at which FLOPs are counted."""
    method: str
    """The pruning method."""
    predicted_speedup: float
    """Ratio of the costs: of the latency table, of FLOPs or of parameters."""
    measured_speedup: float | None
    """Ratio of measured latencies; null for methods that only make the file smaller."""
    measured: NotRequired[MeasuredPoint]
    """What was timed, and how."""
    params: int
    """Parameters, embeddings and head included."""
    params_before: NotRequired[int]
    """Parameters before pruning (`vocab` and `sparse`)."""
    flops: int
    """FLOPs of the encoder for one sequence."""
    layers: list[LayerDocument]
    """The layers that are kept."""
    refits: NotRequired[dict[str, object]]
    """Errors on held-out texts before and after refits: `layers`, `head` (last linear), `joint` (all weights), `vectors` (embedders)."""
    metrics: dict[str, Metrics]
    """Metrics by split."""
    vocab_before: NotRequired[int]
    """Tokens of the vocabulary before pruning (`vocab`)."""
    vocab_after: NotRequired[int]
    """Tokens that are kept (`vocab`)."""
    zeros: NotRequired[dict[str, float]]
    """Share of zero weights by the role of the linear (`sparse`)."""
    zipped_bytes_before: NotRequired[int]
    """Size of the encoder's weights, compressed, before pruning (`sparse`)."""
    zipped_bytes_after: NotRequired[int]
    """The same after pruning (`sparse`)."""


class PruneDocument(PrunedModel):
    """What `prune` returns: the model, or with several targets the last one, and how it was reached."""

    models: NotRequired[list[PrunedModel]]
    """With several targets: one entry for each."""
    curve: NotRequired[list[CurvePoint]]
    """The models on the way to the target."""
    layers_before: NotRequired[list[LayerDocument]]
    """The layers before pruning."""
    flops_before: NotRequired[int]
    """FLOPs of the encoder before pruning."""


class PrunePlanEntry(TypedDict):
    """What pruning to one target would remove."""

    target: str
    """The name of the target."""
    predicted_speedup: float
    """Speedup that the costs predict."""
    predicted_latency_ms: float | None
    """Latency that the latency table predicts; null for targets in FLOPs or parameters."""
    flops_kept: float
    """Share of the encoder's FLOPs that is kept."""
    layers: list[LayerDocument]
    """The layers that would be kept."""


class PrunePlan(TypedDict):
    """What `prune --dry-run` prints."""

    serving: str
    """What is timed, in words."""
    latency_ms: float
    """Latency of the dense model in milliseconds."""
    plans: list[PrunePlanEntry]
    """One entry for each target."""


class FactorizeDocument(TypedDict):
    """What `factorize` returns."""

    target: dict[str, float]
    """The setting that decides the ranks, and `seq_len`, the length in tokens at which FLOPs are counted."""
    method: str
    """How errors are weighted: `fisher`, `activations` or `plain`."""
    params: int
    """Parameters, embeddings and head included."""
    params_before: int
    """Parameters before."""
    flops: int
    """FLOPs of the encoder for one sequence."""
    flops_before: int
    """FLOPs before."""
    layers: list[LayerDocument]
    """The layers, with the ranks of the factorized linear layers."""
    embedding_rank: int | None
    """Rank of the token embeddings; null if they are dense."""
    refits: list[dict[str, float]]
    """For each layer the mean squared error before its LayerNorms on held-out texts, before and after the refit."""
    metrics: dict[str, Metrics]
    """Metrics by split, and `before`: the main metric of the input model."""


class ShareDocument(TypedDict):
    """What `share` returns."""

    groups: list[list[int]]
    """Layers that share one copy of weights, counted from 0."""
    how: str
    """How the shared weights were chosen."""
    params: int
    """Parameters; each copy counts once."""
    params_before: int
    """Parameters before."""
    layers: list[LayerDocument]
    """The layers."""
    shared: list[int]
    """For each layer the first layer that has its weights."""
    metrics: dict[str, Metrics]
    """Metrics by split, and `before`: the main metric of the input model."""


class MatchDocument(TypedDict):
    """One loss between a layer of the teacher and a layer of the student."""

    method: str
    """The loss."""
    weight: float | None
    """Its weight for this pair; null for `theseus`."""
    teacher: str
    """The teacher's layer."""
    student: str
    """The student's layer."""
    projection: str | None
    """The learned projection, if the widths differ."""


class DistillPlan(TypedDict):
    """What `distill --explain` prints."""

    teacher: dict[str, object]
    """Sizes of the teacher: `hidden`, `head_size`, `layers`; of a BiLSTM `lstm`, of a static model `static`."""
    student: dict[str, object]
    """Sizes of the student."""
    teachers: NotRequired[int]
    """Number of teachers."""
    temperature: float
    """Softmax temperature of the logits loss."""
    stages: list[dict[str, object]]
    """Stages of training: `losses` (`all`, `layers` or `outputs`) and `epochs` (null: chosen by the number of texts)."""
    budget: str | None
    """The time budget."""
    matches: list[MatchDocument]
    """The losses between layers."""
