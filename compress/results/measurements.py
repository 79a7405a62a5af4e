"""What the stages that measure return: `eval` and `bench`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from compress.results.values import Interval, Metrics, Ratio, Speedup


class Comparison(TypedDict):
    """A model compared with the first one on the same examples."""

    metric: str
    """The main metric."""
    delta: float
    """This model minus the first one."""
    ci95: Interval
    """95 % interval of the difference (paired bootstrap)."""
    p_value: float
    """p value of the test."""
    test: str
    """`McNemar` if the metric is a share of the examples, else `paired bootstrap`."""


class ClassMetrics(TypedDict):
    """Metrics of one label; null where undefined."""

    label: str
    """The label."""
    precision: float | None
    """Precision."""
    recall: float | None
    """Recall."""
    f1: float | None
    """F1."""
    n: int
    """Examples (for tags: tokens) with this label."""


class IndexDocument(TypedDict):
    """An embedder's queries against the document vectors of the first model."""

    of: str
    """The first model, whose document vectors are searched."""
    valid: bool
    """Whether they can be kept: the main metric is at most one point below that with document vectors of the model's own."""
    metrics: NotRequired[Metrics]
    """Metrics of this search; missing, like what follows, if the vectors of the two models have different sizes."""
    ci95: NotRequired[dict[str, Interval]]
    """95 % interval of each metric."""
    vs_first: NotRequired[Comparison]
    """This search compared with the first model's own queries."""
    vs_own: NotRequired[Comparison]
    """This search compared with document vectors of the model's own."""


class EvalEntry(TypedDict):
    """The accuracy of one model."""

    model: str
    """The model."""
    metrics: Metrics
    """Its metrics."""
    ci95: dict[str, Interval]
    """95 % interval of each metric."""
    vs_first: NotRequired[Comparison]
    """Comparison with the first model; missing for the first one."""
    index: NotRequired[IndexDocument]
    """Whether an index of the first model's document vectors can be kept; for embedders that search a corpus, after the first one."""
    per_class: NotRequired[list[ClassMetrics]]
    """Metrics of each label, for labels and tags."""
    confusion: NotRequired[list[list[int]]]
    """Confusion matrix (rows: true, columns: predicted, in the order of `per_class`), with at most 20 labels."""


class ErrorCounts(TypedDict):
    """Wrong and disputed examples."""

    n: int
    """Examples that some model gets wrong or on which two models disagree."""
    disagreements: int
    """Examples on which two models disagree."""


class EvalDocument(TypedDict):
    """What `eval` returns."""

    task: str
    """Name of the task."""
    split: str
    """The split that was evaluated."""
    n: int
    """Its examples."""
    main_metric: str
    """The metric that is compared."""
    results: list[EvalEntry]
    """One entry for each model."""
    errors: ErrorCounts
    """Wrong and disputed examples."""
    metrics: dict[str, Metrics]
    """Metrics by model."""


class Latency(TypedDict):
    """Latency in milliseconds."""

    p50: float
    """Median."""
    p90: float
    """90th percentile."""
    p99: float | None
    """99th percentile; null below 100 rounds."""
    mean: float
    """Mean."""


class CellDocument(TypedDict):
    """One combination of threads, batch size and length."""

    threads: int
    """Threads."""
    batch_size: int
    """Texts in a batch."""
    seq_len: int
    """Tokens of a text; the mean if `lengths` is `task`."""
    lengths: str
    """`fixed`, or `task`: the texts of the task."""


class BenchEntry(CellDocument):
    """The latency of one model in one cell."""

    model: str
    """The model."""
    runtime: str
    """The runtime."""
    device: str
    """The device."""
    precision: str
    """The number format."""
    tokenized: bool
    """Whether tokenization is included."""
    rounds: int
    """Rounds that were timed."""
    latency_ms: Latency
    """Latency of a batch in milliseconds."""
    throughput_per_s: float
    """Texts per second."""
    size_mb: float
    """Size of the model in MB (10^6 bytes)."""
    load_ms: float | None
    """Time to load the model in a fresh process; null with `--no-memory`."""
    first_run_ms: float | None
    """Time of the first batch in a fresh process; null with `--no-memory`."""
    peak_rss_mb: float | None
    """Peak resident memory of that process; null with `--no-memory`."""
    runs_on: list[str]
    """Devices or execution providers."""
    speedup: Speedup
    """Speedup over the first model."""
    speedup_vs_onnx: Speedup | None
    """Speedup over the first fp32 ONNX artifact; null if there is none."""


class Control(CellDocument, Ratio):
    """The first model timed against itself: the noise floor of a cell."""

    padding: NotRequired[Ratio]
    """How much slower the last model is if each batch is padded to the limit of the task (`lengths: task`)."""


WaterfallStep = TypedDict(
    "WaterfallStep",
    {"from": str, "to": str, "what": str, "ratio": float, "ci95": Interval},
)  # `from` is a keyword: models, what changed between them, and the speedup of this step


class Waterfall(CellDocument):
    """The speedup of the last model over the first, split into the factors of the models in between."""

    steps: list[WaterfallStep]
    """The factors."""
    total: Ratio
    """The whole speedup."""


class CorpusEntry(TypedDict):
    """How fast one model encodes a corpus at its own lengths, with tokenization."""

    model: str
    """The model."""
    runtime: str
    """The runtime."""
    precision: str
    """The number format."""
    threads: int
    """Threads."""
    texts: int
    """Texts that were encoded: as many as fit into `seconds`."""
    tokens: float
    """Mean tokens of a text, by the first model's tokenizer."""
    texts_per_s: float
    """Texts per second."""
    speedup: Speedup
    """How many times as many texts per second as the first model."""


class BenchDocument(TypedDict):
    """What `bench` returns."""

    machine: dict[str, object]
    """Processor, instruction sets, cores, memory, system and library versions."""
    results: list[BenchEntry]
    """One entry for each model and cell."""
    control: list[Control]
    """One entry for each cell: the first model timed against itself."""
    waterfall: list[Waterfall]
    """One entry for each cell: where the speedup comes from."""
    corpus: NotRequired[list[CorpusEntry]]
    """With `corpus`: one entry for each model and number of threads."""
    metrics: dict[str, Metrics]
    """For each model `p50_ms` and `speedup` in the first cell."""
