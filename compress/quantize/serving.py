"""How an int8 artifact is served: which of the graphs within the accuracy budget, in which runtime, with which options."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

import onnx

from compress.benchmark.tuning import Point
from compress.core import console
from compress.core.errors import GateMissed
from compress.core.machine import has_fast_bf16
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.export.runtime_hints import GPU_HINTS, RUNTIME_HINTS
from compress.export.tolerance import BF16_TOLERANCE, TRIED_EXAMPLES
from compress.export.tune import TunableGraphs, TunedGraph, tune_graph
from compress.export.verify import cached_forward, subsample, verify
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.openvino_session import has_openvino
from compress.inference.routes import OPENVINO, single_route
from compress.models.config import max_tokens
from compress.quantize.fused_attention import fuse_attention
from compress.quantize.method_search import MethodChoice, open_graph
from compress.quantize.openvino import openvino_graph
from compress.quantize.variants import CALIBRATED, GraphVariants
from compress.results.graphs import RuntimeHints
from compress.settings import QuantizeSettings

PLAIN = "plain"
FUSED = "fused"  # attention as one operator of ONNX Runtime
RMS = "rms"  # norms that divide by the root mean square
SLACK = 1.5  # how much larger the difference to the float graph may be than that of the most different passing graph
ROUNDING = 1e-3


def fixed_serving(choice: MethodChoice, gpu: bool) -> TunedGraph:
    """Return how a graph is served without timing it: int4, fp16, bf16, and every graph for a GPU."""
    return TunedGraph(choice.graph, None, {"method": choice.method}, _fixed_hints(choice.method, gpu), None)


def _fixed_hints(method: str, gpu: bool) -> RuntimeHints:
    if method == "fp16":
        return GPU_HINTS
    if gpu:
        return {}  # the other hints are for CPUs
    if method != "bf16":
        return RUNTIME_HINTS
    if has_openvino():
        return RUNTIME_HINTS | {"openvino": {"precision": "bf16"}, "routes": single_route(OPENVINO)}
    console.warn("OpenVINO is not installed: the rounded bf16 weights are verified, but not bf16 arithmetic")
    return RUNTIME_HINTS


def tuned_serving(
    choice: MethodChoice, variants: GraphVariants, settings: QuantizeSettings, reference: OnnxModel, data: Encoded, here: bool
) -> TunedGraph:
    """Return the fastest int8 graph within the accuracy budget, with the runtime and options that suit it.

    OpenVINO only gets a calibrated graph: it runs dynamic int8 several times slower than ONNX Runtime.

    Args:
        choice: the method, and the graphs within the accuracy budget.
        variants: makes further forms of these graphs.
        settings: `tune`, `runtime` and the shapes that are timed.
        reference: the float graph.
        data: texts to verify on.
        here: whether this machine is the target; nothing is timed for another one.

    Raises:
        GateMissed: `runtime` is OpenVINO, and no calibrated graph is within the accuracy budget.
        ResourceError: `runtime` is OpenVINO, which is not installed.
    """
    calibrated = next((method for method in CALIBRATED if method in choice.passing), None)
    if settings.runtime == OPENVINO and calibrated is None:
        raise GateMissed(
            "static int8, which OpenVINO runs, loses too many points on validation", "allow more with --max-drop, or --runtime auto"
        )
    if not here:
        settings = settings.model_copy(update={"tune": False, "runtime": OPENVINO if settings.runtime == OPENVINO else "onnxruntime"})
    elif settings.runtime == "auto" and calibrated is None:
        console.info("  OpenVINO is not timed: it runs dynamic int8 slowly, and no static graph is within the accuracy budget")
        settings = settings.model_copy(update={"runtime": "onnxruntime"})
    methods = list(dict.fromkeys([choice.method, *choice.passing]))
    if settings.runtime == OPENVINO and calibrated is not None:
        methods = [calibrated]
    elif not settings.tune:
        methods = [choice.method]
    graphs = choice.passing
    forms = _Forms(choice, variants)
    axes = forms.axes(methods) if settings.tune and settings.runtime != OPENVINO else {}
    openvino = None if calibrated is None else cache(lambda: openvino_graph(graphs[calibrated]))
    tunable = TunableGraphs({"method": methods} | axes, forms.build, openvino)
    floats, config = "bf16" if has_fast_bf16() else "fp32", reference.config
    check = _CloseToFloat(choice, reference, data, floats)
    return tune_graph(tunable, settings, floats, check, config["vocab_size"], max_tokens(config))


class _Forms:
    """The forms of the passing graphs that ONNX Runtime alone reads."""

    def __init__(self, choice: MethodChoice, variants: GraphVariants) -> None:
        self.graphs, self.variants = choice.passing, variants
        self.keep_float = {entry["group"] for entry in choice.float_groups}
        self._rms_graph = cache(self._rms_graph_of)

    def axes(self, methods: Sequence[str]) -> dict[str, list[str]]:
        """Return the axes that some of the methods' graphs have."""
        axes: dict[str, list[str]] = {}
        if any(fuse_attention(self.graphs[method]) is not None for method in methods):
            axes["attention"] = [PLAIN, FUSED]
        if self.variants.centered_model is not None:
            axes["norms"] = [PLAIN, RMS]
        return axes

    def build(self, point: Point) -> onnx.ModelProto:
        """Return the graph of a point."""
        method = point["method"]
        graph = (self._rms_graph(method) if point.get("norms") == RMS else None) or self.graphs[method]
        return (fuse_attention(graph) if point.get("attention") == FUSED else None) or graph

    def _rms_graph_of(self, method: str) -> onnx.ModelProto | None:
        return self.variants.rms_graph(method, self.keep_float)


class _CloseToFloat:
    """Checks that a way to serve an int8 graph is about as close to the float graph as the passing graphs in ONNX Runtime."""

    def __init__(self, choice: MethodChoice, reference: OnnxModel, data: Encoded, floats: str) -> None:
        self.choice, self.floats = choice, floats
        self.target: Target = reference.target
        self.reference = cached_forward(lambda batch: reference.logits(batch))
        self.data = subsample(data, TRIED_EXAMPLES)

    @cached_property
    def limit(self) -> float:
        """The largest allowed difference of the logits if other floats are fp32."""
        graphs = self.choice.passing.values()
        differences = [verify(self.reference, open_graph(graph), self.data, self.target).max_abs for graph in graphs]
        return SLACK * max(differences) + ROUNDING

    def __call__(self, forward: Forward, runtime: str) -> str | None:
        """Return what is wrong, or None."""
        verification = verify(self.reference, forward, self.data, self.target)
        limit = self.limit
        if runtime == OPENVINO and self.floats == "bf16":
            limit += BF16_TOLERANCE * verification.largest
        if verification.max_abs <= limit:
            return None
        return f"differs from the float graph by {verification.max_abs:.2e} on '{verification.worst_case}', more than {limit:g}"
