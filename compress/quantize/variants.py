"""The smaller forms of one float graph, made on demand: each method, with any groups of matmuls kept in float."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from compress.core.errors import UsageError
from compress.data.encoded import Encoded
from compress.export.half import fp16_graph
from compress.quantize.bf16 import bf16_graph
from compress.quantize.calibrate import Histogram, Range, calibrated_range, histograms
from compress.quantize.dynamic import dynamic_graph
from compress.quantize.embeddings import quantize_embeddings
from compress.quantize.instruction_sets import Target
from compress.quantize.int4 import int4_graph
from compress.quantize.matmuls import find_matmuls, name_nodes
from compress.quantize.smooth import inputs_to_smooth, smooth_graph
from compress.quantize.static import Codes, static_graph
from compress.settings import QuantizeSettings

CALIBRATED = ("static", "smooth")  # and so what OpenVINO runs in integers
HALVES = {"fp16": fp16_graph, "bf16": bf16_graph}


def quantized_graph(
    model: onnx.ModelProto, seven_bits: bool, keep_float: Collection[str] = (), cache: dict[str, Codes] | None = None
) -> onnx.ModelProto:
    """Return a float graph's int8 form: dynamic int8 matmuls (see `dynamic_graph`), embeddings int8 by row."""
    return _finished(dynamic_graph(model, seven_bits, keep_float, cache))


def _finished(graph: onnx.ModelProto, tables: bool = True) -> onnx.ModelProto:
    """Make the embeddings int8 by row where `tables` says so, and check the graph."""
    if tables:
        quantize_embeddings(graph)
    onnx.checker.check_model(graph)
    return graph


class GraphVariants:
    """The smaller forms of a float graph.

    Args:
        source: the float graph's file.
        settings: calibration and smoothing.
        target: what the graphs are made for.
        data: calibration examples; only static forms need them.
    """

    def __init__(self, source: Path, settings: QuantizeSettings, target: Target, data: Encoded | None) -> None:
        self.source, self.settings, self.target = source, settings, target
        self._data = data
        self._codes: dict[str, dict[str, Codes]] = {}
        self._ranges: dict[str, dict[str, Range]] = {}

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The float graph."""
        graph = onnx.load(str(self.source))
        name_nodes(graph)
        return graph

    @property
    def data(self) -> Encoded:
        """The calibration examples.

        Raises:
            UsageError: there are none.
        """
        if self._data is None:
            raise UsageError(
                f"--method {self.settings.method} needs texts to calibrate on", "give --task T with a training split, or --unlabeled FILE"
            )
        return self._data

    @property
    def groups(self) -> list[str]:
        """The groups of matmuls, in the graph's order."""
        return list(dict.fromkeys(product.group for product in find_matmuls(self.model)))

    @cached_property
    def plain(self) -> dict[str, Histogram]:
        """The histograms of what the float graph's matmuls read."""
        return histograms(self.model, [product.rows for product in find_matmuls(self.model)], self.data)

    @cached_property
    def smoothed(self) -> onnx.ModelProto:
        """The float graph with its norms' outputs smoothed."""
        channels = {name: self.plain[name].channels for name in inputs_to_smooth(self.model)}
        return smooth_graph(self.model, {name: found for name, found in channels.items() if found is not None}, self.settings.smooth_alpha)

    @cached_property
    def smooth(self) -> dict[str, Histogram]:
        """The histograms of what the smoothed graph's matmuls read."""
        return histograms(self.smoothed, [product.rows for product in find_matmuls(self.smoothed)], self.data)

    def calibrated(self, method: str) -> tuple[onnx.ModelProto, dict[str, Histogram]]:
        """Return the float graph that a static method quantizes, and its histograms."""
        return (self.smoothed, self.smooth) if method == "smooth" else (self.model, self.plain)

    def ranges(self, method: str) -> dict[str, Range]:
        """Return the range of every value that is quantized, by a static method."""
        if method not in self._ranges:
            found = self.calibrated(method)[1].items()
            self._ranges[method] = {name: calibrated_range(seen, self.settings.calib_method, self.target.symmetric) for name, seen in found}
        return self._ranges[method]

    def graph(self, method: str, keep_float: Collection[str] = ()) -> onnx.ModelProto:
        """Return the form that a method makes, with groups of matmuls kept in float (not in fp16 and bf16).

        Embeddings are int8 by row, but for GPUs in static forms, whose operators TensorRT does not have.
        """
        if method in HALVES:
            return _finished(HALVES[method](self.model), tables=False)
        if method == "int4":
            return _finished(int4_graph(self.model, keep_float))
        target, cache = self.target, self._codes.setdefault(method, {})
        if method == "dynamic":
            return quantized_graph(self.model, target.seven_bits, keep_float, cache)
        model = self.calibrated(method)[0]
        made = static_graph(model, self.ranges(method), target.seven_bits, target.symmetric, keep_float, cache, float_biases=target.gpu)
        return _finished(made, tables=not target.gpu)

    def described(self, method: str) -> dict[str, Any] | None:
        """Return what the ranges are from, for manifests; None where a method has none."""
        if method not in CALIBRATED:
            return None
        alpha = {"smooth_alpha": self.settings.smooth_alpha} if method == "smooth" else {}
        return {"method": self.settings.calib_method, "examples": len(self.data), "tokens": int(self.data.lengths.sum()), **alpha}
