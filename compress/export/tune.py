"""Choose how an artifact is run: forms of its graph, options of ONNX Runtime, and which runtime takes which batches.

What is measured is kept in the user's cache, by machine, versions and the graph's structure: weights do not change times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compress.benchmark.latency import Cell
from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.tuning import Point, SearchSpace, compare_runtimes, describe_point, search
from compress.core import console, digests
from compress.core.caches import measured_once
from compress.core.errors import ModelError
from compress.inference.batches import Forward
from compress.inference.onnx_session import open_session, session_forward, without_lingering_threads
from compress.inference.openvino_session import has_openvino, openvino_forward
from compress.inference.routes import ONNXRUNTIME, OPENVINO, single_route
from compress.models.layout import GRAPH
from compress.settings import TuneSettings

VERSION = 4
KEPT_GRAPHS = 2
# ONNX Runtime's fusions of these patterns are slower on CPUs than what they replace: see docs/decisions.
RUNTIME_HINTS: dict[str, Any] = {"disabled_optimizers": ["SkipLayerNormFusion", "BiasGeluFusion"]}
GPU_HINTS: dict[str, Any] = {"provider_options": {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}}}  # of a float16 graph
FUSIONS = {
    "without both": RUNTIME_HINTS["disabled_optimizers"],
    "all": [],
    "without SkipLayerNorm": ["SkipLayerNormFusion"],
    "without BiasGelu": ["BiasGeluFusion"],
}
OPTIONS = {"fusions": list(FUSIONS), "optimization": ["all", "basic"], "spinning": ["on", "off"]}
Check = Callable[[Forward, str], str | None]  # a forward function and its runtime -> what is wrong with it
START = {axis: values[0] for axis, values in OPTIONS.items()}


@dataclass(frozen=True)
class TunableGraphs:
    """The graphs to choose from, by axes of their own.

    Args:
        axes: values by axis; the first of each is where the search starts.
        graph: from a point, of which these axes count, to its graph.
        openvino: makes what OpenVINO is to read where that is another form, whatever ONNX Runtime reads; None: the same.
    """

    axes: Mapping[str, Sequence[str]]
    graph: Callable[[Point], onnx.ModelProto]
    openvino: Callable[[], onnx.ModelProto] | None = None


@dataclass(frozen=True)
class TunedGraph:
    """The graph of `model.onnx`, OpenVINO's where it is another one, the hints for `compress.json`, and what was measured."""

    graph: onnx.ModelProto
    openvino_graph: onnx.ModelProto | None
    point: Point
    hints: dict[str, Any]
    tuning: dict[str, Any] | None


def hints_of(point: Point) -> dict[str, Any]:
    """Return the hints of a point's options: `disabled_optimizers`, `optimization`, `session_config`."""
    hints: dict[str, Any] = {"disabled_optimizers": list(FUSIONS[point["fusions"]])}
    if point["optimization"] != "all":
        hints["optimization"] = point["optimization"]
    if point["spinning"] == "off":
        hints["session_config"] = {"session.intra_op.allow_spinning": "0"}
    return hints


def choose(
    candidates: TunableGraphs,
    settings: TuneSettings,
    floats: str,
    check: Check,
    vocab_size: int,
    longest: int,
) -> TunedGraph:
    """Return the fastest of the verified ways to run a model; without `tune` and `runtime: auto` the first, nothing measured.

    Args:
        candidates: the graphs.
        settings: what is searched, and the shapes that are timed.
        floats: in which OpenVINO computes floats, `fp32` or `bf16`.
        check: from a forward function and its runtime to what is wrong with it, or None.
        vocab_size: of the timed tokens.
        longest: most tokens of a text.

    Raises:
        ResourceError: OpenVINO was asked for and is not installed.
    """
    runtime = OPENVINO if settings.runtime == OPENVINO else ONNXRUNTIME
    start = {axis: values[0] for axis, values in candidates.axes.items()} | START
    if settings.tune or settings.runtime == "auto":
        with tempfile.TemporaryDirectory() as scratch:
            opener = _Opener(candidates, floats, Path(scratch))
            point, routes, tuning = _measured(opener, settings, runtime, start, check, vocab_size, longest)
        _announce(tuning, routes)
    else:
        point, routes, tuning = start, single_route(runtime), {}
    hints, apart = hints_of(point), None
    if any(route["runtime"] == OPENVINO for route in routes):
        hints |= {"openvino": {"precision": floats}, "routes": routes}
        apart = candidates.openvino() if candidates.openvino else None
    return TunedGraph(candidates.graph(point), apart, point, hints, tuning or None)


def _measured(
    opener: _Opener, settings: TuneSettings, runtime: str, start: Point, check: Check, vocab_size: int, longest: int
) -> tuple[Point, list[dict[str, Any]], dict[str, Any]]:
    """Return the fastest point, the routes, and what was measured."""
    candidates, cells = opener.candidates, _cells(settings, longest)
    facts = [VERSION, structure(candidates.graph(start)), opener.floats, [asdict(cell) for cell in cells]]

    def batch(cell: Cell) -> dict[str, np.ndarray]:
        return random_batch(np.random.default_rng(0), vocab_size, cell.batch_size, cell.seq_len or longest)

    tuning: dict[str, Any] = {}
    if settings.tune:
        axes = dict(candidates.axes) | (_options(cells) if runtime == ONNXRUNTIME else {})
        ways = SearchSpace(partial(opener.open, runtime), lambda forward: check(forward, runtime), batch)
        tuning = _cached([*facts, runtime, axes], lambda: search(axes, start, ways, cells).as_json())
    point = tuning.get("winner", start)
    if settings.runtime != "auto" or not _openvino_is_right(opener, point, cells, check):
        return point, single_route(runtime), tuning
    other = structure(candidates.openvino()) if candidates.openvino else None
    found = _cached([*facts, "runtimes", point, other], lambda: _compared(opener, point, batch, cells))
    return point, found["routes"], tuning | {"runtimes": found["cells"]}


class _Opener:
    """Opens points; the last graphs are kept as bytes."""

    def __init__(self, candidates: TunableGraphs, floats: str, scratch: Path) -> None:
        self.candidates, self.floats, self.scratch = candidates, floats, scratch
        self._bytes: dict[str, bytes] = {}

    def open(self, runtime: str, point: Point, threads: int) -> Forward:
        """Open a point in a runtime.

        Raises:
            ModelError: the runtime cannot read the graph.
        """
        if runtime == ONNXRUNTIME:
            return session_forward(open_session(self._graph(point), threads, "cpu", without_lingering_threads(hints_of(point))))
        apart = self.candidates.openvino
        folder = self.scratch / ("apart" if apart else digests.digest_json(point))  # OpenVINO may read weights from the file later
        if not folder.exists():
            folder.mkdir()
            (folder / GRAPH).write_bytes(apart().SerializeToString() if apart else self._graph(point))
        return openvino_forward(folder, self.floats, "cpu", threads)

    def _graph(self, point: Point) -> bytes:
        name = describe_point({axis: point[axis] for axis in self.candidates.axes})
        if name not in self._bytes:
            while len(self._bytes) >= KEPT_GRAPHS:
                self._bytes.pop(next(iter(self._bytes)))
            self._bytes[name] = self.candidates.graph(point).SerializeToString()
        return self._bytes[name]


def _cells(settings: TuneSettings, longest: int) -> list[Cell]:
    lengths = list(dict.fromkeys(min(length, longest) for length in settings.seq_len))
    return [Cell(threads, batch, length) for threads in settings.threads for batch in settings.batch_size for length in lengths]


def _options(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the axes of ONNX Runtime's options; threads that wait by spinning are there only where there are several."""
    return {axis: values for axis, values in OPTIONS.items() if axis != "spinning" or any(cell.threads > 1 for cell in cells)}


def _openvino_is_right(opener: _Opener, point: Point, cells: Sequence[Cell], check: Check) -> bool:
    """Tell whether OpenVINO is installed and computes the right logits; says so where it does not."""
    if not has_openvino():
        console.info("  OpenVINO is not installed, so ONNX Runtime takes all (pip install 'bert-compress[openvino]')")
        return False
    try:
        wrong = check(opener.open(OPENVINO, point, cells[0].threads), OPENVINO)
    except ModelError as error:
        wrong = error.message
    if wrong is not None:
        console.warn(f"OpenVINO is not used: {wrong}")
    return wrong is None


def _compared(opener: _Opener, point: Point, batch: Callable[[Cell], dict[str, np.ndarray]], cells: Sequence[Cell]) -> dict[str, Any]:
    opened = {runtime: partial(opener.open, runtime, point) for runtime in (ONNXRUNTIME, OPENVINO)}
    routes, entries = compare_runtimes(opened, batch, cells)
    return {"routes": routes, "cells": entries}


def structure(graph: onnx.ModelProto) -> str:
    """Return a digest of a graph but for the values of its weights."""
    facts: list[Any] = [node.SerializeToString(deterministic=True).hex() for node in graph.graph.node]
    facts += [[tensor.name, tensor.data_type, list(tensor.dims)] for tensor in graph.graph.initializer]
    return digests.digest_json(facts)


def _cached(facts: list[Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a measurement from the cache or made now, and under `cached` which of the two."""
    measured, cached = measured_once("tuning", facts, measure)
    return {**measured, "cached": cached}


def _announce(tuning: dict[str, Any], routes: list[dict[str, Any]]) -> None:
    """Tell what was chosen, and by how much."""
    for title, key in (("fastest form", "cells"), ("OpenVINO beside ONNX Runtime", "runtimes")):
        if key in tuning:
            gains = [f"b{cell['batch_size']} s{cell['seq_len']} t{cell['threads']} {cell['speedup']:.2f}x" for cell in tuning[key]]
            told = f": {describe_point(tuning['winner'])}" if key == "cells" else ""
            console.info(f"  {title}{told} ({', '.join(gains)})")
    if "runtimes" in tuning:
        limits = ["" if route["up_to"] is None else f" up to {route['up_to']} tokens" for route in routes]
        parts = [f"{route['runtime']}{limit}" for route, limit in zip(routes, limits, strict=True)]
        console.info(f"  runtime: {', then '.join(parts)}")
