"""The quantized variants of one float graph, created on demand: each method, with any groups of matmuls kept in float."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from compress.core.errors import UsageError
from compress.data.encoded import Encoded
from compress.export.graph_editing import GraphEditor, name_nodes
from compress.models.int8_ranges import Range
from compress.quantize.bf16 import bf16_graph
from compress.quantize.calibrate import activation_histograms
from compress.quantize.centered_norms import center_norms, use_rms_norms
from compress.quantize.dynamic import dynamic_graph
from compress.quantize.embeddings import quantize_embeddings
from compress.quantize.fp16 import fp16_graph
from compress.quantize.instruction_sets import HardwareTarget
from compress.quantize.int4 import int4_graph
from compress.quantize.int8_weights import WeightQuantizer
from compress.quantize.matmuls import find_matmuls
from compress.quantize.outlier_channels import without_outliers
from compress.quantize.ranges import Histogram, calibrated_range
from compress.quantize.smooth import inputs_to_smooth, smooth_graph
from compress.quantize.static import quantizable_matmuls, static_graph
from compress.results.graphs import CalibrationDocument
from compress.settings import QuantizeSettings

CALIBRATED = ("static", "smooth")  # the methods that calibrate; only their graphs are fast in OpenVINO
PACKED = {".attention.qkv": ".attention.query", ".attention.kv": ".attention.key", ".ffn.in.packed": ".ffn.in"}  # one of the parts of each
HALF_PRECISION = {"fp16": fp16_graph, "bf16": bf16_graph}


def dynamic_int8_graph(
    model: onnx.ModelProto, seven_bits: bool, keep_float: Collection[str] = (), weights: WeightQuantizer | None = None
) -> onnx.ModelProto:
    """Return a copy of a float graph with dynamic int8 matmuls (see `dynamic_graph`) and int8 embeddings."""
    return _with_int8_embeddings(dynamic_graph(model, seven_bits, keep_float, weights))


def _with_int8_embeddings(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = quantize_embeddings(model)
    onnx.checker.check_model(graph)
    return graph


class GraphVariants:
    """The quantized variants of a float graph.

    Args:
        path: file of the float graph.
        settings: how ranges are calibrated and smoothed.
        target: the hardware that the graphs are for.
        calibration: examples, which the calibrated methods need.
        trained: the ranges that the model was trained with, by matmul: static int8 has these, and calibrates none.
        observed: examples in which outlier channels are found; None: they stay in int8.
    """

    def __init__(
        self,
        path: Path,
        settings: QuantizeSettings,
        target: HardwareTarget,
        calibration: Encoded | None,
        trained: Mapping[str, Range] | None = None,
        observed: Encoded | None = None,
    ) -> None:
        self.path, self.settings, self.target, self.trained = path, settings, target, trained or {}
        self._calibration, self._observed = calibration, observed
        self._weights, self._smoothed_weights = WeightQuantizer(target.seven_bits), WeightQuantizer(target.seven_bits)
        self._ranges: dict[str, dict[str, Range]] = {}

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The float graph."""
        graph = onnx.load(str(self.path))
        name_nodes(graph)
        return graph

    @property
    def calibration(self) -> Encoded:
        """The calibration examples.

        Raises:
            UsageError: there are none.
        """
        if self._calibration is None:
            raise UsageError(
                f"--method {self.settings.method} needs texts to calibrate on", "give --task T with a training split, or --unlabeled FILE"
            )
        return self._calibration

    @property
    def groups(self) -> list[str]:
        """The groups of matmuls, in the graph's order."""
        return list(dict.fromkeys(matmul.group for matmul in find_matmuls(self.model)))

    @cached_property
    def histograms(self) -> dict[str, Histogram]:
        """The histograms of the values that the float graph's matmuls read."""
        return self._histograms(self.model, self.calibration)

    @cached_property
    def plain_model(self) -> onnx.ModelProto:
        """The float graph that dynamic and static int8 quantize: without outlier channels, if examples to find them were given."""
        if self._observed is None:
            return self.model
        own = self._observed is self._calibration
        histograms = self.histograms if own else self._histograms(self.model, self._observed)
        return without_outliers(self.model, _largest(histograms, histograms))

    @cached_property
    def plain_histograms(self) -> dict[str, Histogram]:
        """The histograms of the values that the matmuls of `plain_model` read."""
        return self.histograms if self._observed is None else self._histograms(self.plain_model, self.calibration)

    @cached_property
    def smoothed_model(self) -> onnx.ModelProto:
        """The float graph after SmoothQuant."""
        return smooth_graph(self.model, _largest(self.histograms, inputs_to_smooth(self.model)), self.settings.smooth_alpha)

    @cached_property
    def smoothed_histograms(self) -> dict[str, Histogram]:
        """The histograms of the values that the smoothed graph's matmuls read."""
        return self._histograms(self.smoothed_model, self.calibration)

    def _histograms(self, model: onnx.ModelProto, data: Encoded) -> dict[str, Histogram]:
        return activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], data)

    def calibrated(self, method: str) -> tuple[onnx.ModelProto, dict[str, Histogram]]:
        """Return the float graph that a calibrated method quantizes, and its histograms."""
        return (self.smoothed_model, self.smoothed_histograms) if method == "smooth" else (self.plain_model, self.plain_histograms)

    def ranges(self, method: str) -> dict[str, Range]:
        """Return the range of every value that a calibrated method quantizes."""
        if method == "static" and self.trained:
            self._ranges.setdefault(method, self._trained_ranges())
        if method not in self._ranges:
            histograms = self.calibrated(method)[1].items()
            calib_method, symmetric = self.settings.calib_method, self.target.symmetric
            self._ranges[method] = {name: calibrated_range(histogram, calib_method, symmetric) for name, histogram in histograms}
        return self._ranges[method]

    def _trained_ranges(self) -> dict[str, Range]:
        """Return the ranges that the model was trained with by the values that the matmuls read."""
        ranges = {matmul.rows: self._trained_range(matmul.node) for matmul in quantizable_matmuls(GraphEditor(self.model))}
        return {value: limits for value, limits in ranges.items() if limits is not None}

    def _trained_range(self, node: str) -> Range | None:
        """Return the range that the input of a matmul was trained with; None: it was float in training."""
        packed = next((suffix for suffix in PACKED if node.endswith(suffix)), None)
        return self.trained.get(node.removesuffix(packed) + PACKED[packed] if packed else node)

    def _float_in_training(self) -> set[str]:
        """Return the groups of matmuls that were float when the model was trained with int8 rounding."""
        matmuls = quantizable_matmuls(GraphEditor(self.model)) if self.trained else []
        return {matmul.group for matmul in matmuls if self._trained_range(matmul.node) is None}

    def graph(self, method: str, keep_float: Collection[str] = ()) -> onnx.ModelProto:
        """Return the graph of a method, with groups of matmuls kept in float (fp16 and bf16 ignore `keep_float`).

        Embeddings are int8 in every int8 and int4 graph, except in static graphs for GPUs: TensorRT lacks the operators.
        """
        if method in HALF_PRECISION:
            graph = HALF_PRECISION[method](self.model)
        elif method == "int4":
            return _with_int8_embeddings(int4_graph(self.model, keep_float))
        elif method == "dynamic":
            return dynamic_int8_graph(self.plain_model, self.target.seven_bits, keep_float, self._weights)
        else:
            model, gpu = self.calibrated(method)[0], self.target.gpu
            if method == "static":
                keep_float = {*keep_float, *self._float_in_training()}
            weights = self._smoothed_weights if method == "smooth" else self._weights
            graph = static_graph(model, self.ranges(method), weights, self.target.symmetric, keep_float, float_biases=gpu)
            if not gpu:
                return _with_int8_embeddings(graph)
        onnx.checker.check_model(graph)
        return graph

    @cached_property
    def centered_model(self) -> onnx.ModelProto | None:
        """The float graph of dynamic and static int8 with norms that may divide by the root mean square; None if it has none."""
        return center_norms(self.plain_model)

    def rms_graph(self, method: str, keep_float: Collection[str] = ()) -> onnx.ModelProto | None:
        """Return the graph of a method with norms by the root mean square, for ONNX Runtime.

        None where no norm can be such, with smoothing, and where the ranges were trained, for these norms change what they are ranges of.
        """
        model = self.centered_model
        if model is None or method not in ("dynamic", "static") or (method == "static" and self.trained):
            return None
        if method == "dynamic":
            return use_rms_norms(dynamic_int8_graph(model, self.target.seven_bits, keep_float, self._weights))
        calib_method, symmetric = self.settings.calib_method, self.target.symmetric
        histograms = self._histograms(model, self.calibration).items()
        ranges = {name: calibrated_range(histogram, calib_method, symmetric) for name, histogram in histograms}
        return use_rms_norms(_with_int8_embeddings(static_graph(model, ranges, self._weights, symmetric, keep_float)))

    def calibration_document(self, method: str) -> CalibrationDocument | None:
        """Return how the ranges of a method were calibrated, for manifests; None if it does not calibrate."""
        if method not in CALIBRATED:
            return None
        if method == "static" and self.trained:
            return {"method": "trained", "examples": 0, "tokens": 0}
        document: CalibrationDocument = {
            "method": self.settings.calib_method,
            "examples": len(self.calibration),
            "tokens": int(self.calibration.lengths.sum()),
        }
        if method == "smooth":
            document["smooth_alpha"] = self.settings.smooth_alpha
        return document


def _largest(histograms: Mapping[str, Histogram], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the largest absolute value of each channel, (channels,), of the named values that occurred."""
    largest = {name: histograms[name].channels for name in names}
    return {name: of_channels for name, of_channels in largest.items() if of_channels is not None}
