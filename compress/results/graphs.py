"""What the stages that write an ONNX artifact return: `export` and `quantize`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from compress.results.values import InputSpecDocument, Interval, LayerDocument, Metrics, Speedup


class VerificationFacts(TypedDict):
    """How far the logits of two models agree."""

    max_abs: float
    """Largest absolute difference of the logits."""
    max_rel: float
    """Largest relative difference."""
    agreement: float
    """Share of the examples with the same prediction."""
    examples: int
    """Rows of all batches that were compared; for tags the tokens."""
    worst_case: str
    """The batch shape with the largest difference."""
    cases: list[str]
    """The batch shapes that were compared."""
    largest: float
    """Largest absolute logit of the reference."""


class VerificationDocument(VerificationFacts):
    """How far the logits of a graph agree with those of its reference."""

    against: str
    """The reference."""
    texts: str
    """Where the texts come from."""
    tolerance: NotRequired[float]
    """Largest difference that is allowed (`export`)."""
    tolerance_of: NotRequired[str]
    """What `tolerance` is a share of, for half precision."""


class TuningRow(TypedDict):
    """One variant of a graph that was tried."""

    point: dict[str, str]
    """Its choices by axis."""
    speedup: NotRequired[float]
    """Geometric mean of its speedups over the first row."""
    ci95: NotRequired[Interval]
    """95 % interval of the speedup."""
    refused: NotRequired[str]
    """Why it was not timed."""


class TuningDocument(TypedDict):
    """The search for the fastest variant of a graph, by measurement."""

    winner: NotRequired[dict[str, str]]
    """The choices of the fastest variant."""
    table: NotRequired[list[TuningRow]]
    """The variants that were tried."""
    cells: NotRequired[list[dict[str, object]]]
    """For each `threads`, `batch_size` and `seq_len`: `start_ms`, `winner_ms`, `speedup` and `ci95`."""
    runtimes: NotRequired[list[dict[str, object]]]
    """For each cell: `onnxruntime_ms`, `openvino_ms`, the `speedup` of OpenVINO over ONNX Runtime and its `ci95`."""
    cached: NotRequired[bool]
    """Whether an earlier run measured it."""


class Route(TypedDict):
    """Which runtime serves batches up to a number of tokens."""

    up_to: int | None
    """Largest number of tokens of a batch; null: no limit."""
    runtime: str
    """The runtime."""


class RuntimeHints(TypedDict, total=False):
    """How an artifact is run."""

    disabled_optimizers: list[str]
    """Graph optimizers of ONNX Runtime that are switched off."""
    optimization: str
    """Level of graph optimization: `basic`; all if missing."""
    session_config: dict[str, str]
    """Configuration entries of the session."""
    provider_options: dict[str, dict[str, str]]
    """Options by execution provider."""
    openvino: dict[str, str]
    """`precision` in which OpenVINO computes."""
    routes: list[Route]
    """Runtimes by the number of tokens of a batch, in ascending order."""


class GraphDocument(TypedDict):
    """What `export` and `quantize` both return."""

    precision: str
    """Number format: `fp32`, `fp16`, `bf16`, `int8` or `int4`."""
    runtime: RuntimeHints
    """How the artifact is run."""
    tuning: NotRequired[TuningDocument]
    """With `tune` or `runtime: auto`: what was measured."""
    verification: VerificationDocument
    """How far the logits agree with the reference."""
    verification_openvino: NotRequired[VerificationDocument]
    """The same as OpenVINO computes, if it serves the artifact."""
    input_spec: InputSpecDocument
    """How inputs are encoded and outputs are decoded."""
    params: int | None
    """Parameters; null if the source has no manifest that records them."""
    layers: list[LayerDocument]
    """The layers of the encoder."""
    graph_inputs: list[str]
    """The inputs of the graph, in its order."""
    graph_outputs: list[str]
    """Its outputs."""
    size_mb: float
    """Size of the graph in MB."""


class ExportDocument(GraphDocument):
    """What `export` returns."""

    form: dict[str, str | int]
    """How the graph is written: `attention`, `qkv`, `scale`, `opset`."""
    graph: NotRequired[str]
    """File of the graph in the layout of another client; else it is `model.onnx`."""
    metrics: Metrics
    """`max_abs_difference` and `argmax_agreement` of the verification."""


class TargetDocument(TypedDict):
    """The machine that a graph is quantized for."""

    name: str
    """Name of the target."""
    here: bool
    """Whether this machine is such a target."""


class CalibrationDocument(TypedDict):
    """How activation ranges were calibrated."""

    method: str
    """How ranges are chosen; `trained`: they are those that `distill --quantize` trained."""
    examples: int
    """Calibration examples."""
    tokens: int
    """Their tokens."""
    smooth_alpha: NotRequired[float]
    """Strength of SmoothQuant."""


class CandidateDocument(TypedDict):
    """A method that `quantize --method auto` tried."""

    method: str
    """The method."""
    drop_points: float
    """Points of the main metric that validation lost."""
    speedup: NotRequired[Speedup]
    """Speedup over the first method, if it was timed."""


class FloatGroup(TypedDict):
    """Layers that the accuracy gate kept in float."""

    group: str
    """Name of the group."""
    sensitivity: float
    """Share of the squared error of the logits that keeping this group alone in float removes."""
    drop_points_in_int8: float | None
    """Points that validation loses if this group is int8 and the other groups are as chosen."""
    reason: str
    """Why it is kept in float."""


class MatmulError(TypedDict):
    """The quantization error of one matmul (`quantize --report`)."""

    matmul: str
    """The matmul."""
    group: str
    """Its group."""
    float: bool
    """Whether it is kept in float."""
    error: float
    """|int8 - float| / |float| of its output over real tokens, errors of earlier layers included."""
    range: list[float] | None
    """Range that its input is quantized to; null for dynamic int8 and float."""
    seen: list[float] | None
    """Range that calibration saw."""
    saturated: float | None
    """Share of the values beyond the range."""


class QuantizeDocument(GraphDocument):
    """What `quantize` returns."""

    method: str
    """The method that was used: `dynamic`, `static`, `smooth`, `int4`, `fp16` or `bf16`; `settings.method` is the one requested."""
    weights: str
    """Format of the weights."""
    target: TargetDocument
    """The machine that the graph is quantized for."""
    instruction_sets: list[str] | str
    """Instruction sets of the target; for a GPU its name."""
    calibration: CalibrationDocument | None
    """How activation ranges were calibrated; null without calibration."""
    candidates: list[CandidateDocument] | None
    """With `method: auto`: the methods that were tried."""
    float_groups: list[FloatGroup] | None
    """Groups of layers that the accuracy gate kept in float, the most sensitive first."""
    metrics: dict[str, Metrics]
    """On validation: `n`, the metrics, `float` (of the source) and `drop_points`; `validation_openvino` as OpenVINO computes."""
    explain: NotRequired[list[MatmulError]]
    """With `report`: the error of each matmul."""
