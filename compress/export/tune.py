"""Choose how an artifact is served: the form of its graph, the options of ONNX Runtime, and a runtime for each batch size.

Measurements are cached by machine, library versions and the structure of the graph: the values of the weights do not change
the latency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import onnx

from compress.benchmark.grid import Cell
from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.runtime_routes import compare_runtimes
from compress.benchmark.tuning import Point, SearchSpace, describe_point, search
from compress.core import console, digests
from compress.core.caches import measured_once
from compress.core.errors import ModelError
from compress.core.scratch import folder as scratch_folder
from compress.export.runtime_hints import DEFAULT_OPTIONS, OPTIONS, session_hints
from compress.inference.batches import Forward
from compress.inference.onnx_session import open_session, session_forward, without_lingering_threads
from compress.inference.openvino_session import has_openvino, openvino_forward
from compress.inference.routes import ONNXRUNTIME, OPENVINO, single_route
from compress.models.layout import GRAPH
from compress.results.graphs import Route, RuntimeHints, TuningDocument
from compress.settings import TuneSettings

VERSION = 4
KEPT_GRAPHS = 2
Check = Callable[[Forward, str], str | None]  # a forward function and its runtime -> what is wrong with its logits


@dataclass(frozen=True)
class TunableGraphs:
    """The graphs to choose from.

    Attributes:
        axes: values by axis; the search starts from the first of each.
        build: returns the graph of a point, which may have further axes.
        build_openvino: returns the graph that OpenVINO reads, if it differs from ONNX Runtime's.
    """

    axes: Mapping[str, Sequence[str]]
    build: Callable[[Point], onnx.ModelProto]
    build_openvino: Callable[[], onnx.ModelProto] | None = None


@dataclass(frozen=True)
class TunedGraph:
    """The outcome of the choice.

    Attributes:
        graph: of `model.onnx`.
        openvino_graph: OpenVINO's, if it serves the artifact and reads another graph.
        point: the chosen values by axis.
        hints: for `compress.json`.
        tuning: what was measured.
    """

    graph: onnx.ModelProto
    openvino_graph: onnx.ModelProto | None
    point: Point
    hints: RuntimeHints
    tuning: TuningDocument | None


def tune_graph(
    graphs: TunableGraphs, settings: TuneSettings, openvino_floats: str, check: Check, vocab_size: int, longest: int
) -> TunedGraph:
    """Return the fastest of the verified ways to serve a model; without `tune` and `runtime: auto` the first, without measuring.

    Args:
        graphs: to choose from.
        settings: what is searched, and the shapes that are timed.
        openvino_floats: the precision in which OpenVINO computes floats, `fp32` or `bf16`.
        check: verifies a way to serve the model.
        vocab_size: for random tokens.
        longest: the most tokens of a text.

    Raises:
        ResourceError: `runtime` is OpenVINO, which is not installed.
    """
    runtime = OPENVINO if settings.runtime == OPENVINO else ONNXRUNTIME
    point: Point = {axis: values[0] for axis, values in graphs.axes.items()} | DEFAULT_OPTIONS
    routes, tuning = single_route(runtime), TuningDocument()
    if settings.tune or settings.runtime == "auto":
        with scratch_folder() as scratch:
            opener = _Opener(graphs, openvino_floats, scratch)
            tuner = _Tuner(opener, settings, runtime, check, vocab_size, longest)
            point, routes, tuning = tuner.run(point)
        _announce(tuning, routes)
    hints, openvino_graph = session_hints(point), None
    if any(route["runtime"] == OPENVINO for route in routes):
        hints |= {"openvino": {"precision": openvino_floats}, "routes": routes}
        openvino_graph = graphs.build_openvino() if graphs.build_openvino else None
    return TunedGraph(graphs.build(point), openvino_graph, point, hints, tuning or None)


class _Tuner:
    """Measures: first the forms and options in one runtime, then OpenVINO against ONNX Runtime."""

    def __init__(self, opener: _Opener, settings: TuneSettings, runtime: str, check: Check, vocab_size: int, longest: int) -> None:
        self.opener, self.settings, self.runtime, self.check = opener, settings, runtime, check
        self.vocab_size, self.longest = vocab_size, longest
        self.cells = _cells(settings, longest)

    def run(self, start: Point) -> tuple[Point, list[Route], TuningDocument]:
        """Return the fastest point, the routes, and what was measured."""
        graphs, tuning, point = self.opener.graphs, TuningDocument(), start
        facts = [VERSION, structure_digest(graphs.build(start)), self.opener.openvino_floats, [asdict(cell) for cell in self.cells]]
        if self.settings.tune:
            tuning = self._search(start, facts)
            point = tuning.get("winner", start)
        if self.settings.runtime != "auto" or not self._openvino_is_correct(point):
            return point, single_route(self.runtime), tuning
        openvino = structure_digest(graphs.build_openvino()) if graphs.build_openvino else None
        measured, _ = measured_once("tuning", [*facts, "runtimes", point, openvino], lambda: self._compare_runtimes(point))
        tuning["runtimes"] = measured["cells"]
        return point, measured["routes"], tuning

    def _search(self, start: Point, facts: list[object]) -> TuningDocument:
        """Search the forms of the graph and, for ONNX Runtime, its options."""
        axes = dict(self.opener.graphs.axes) | (_options(self.cells) if self.runtime == ONNXRUNTIME else {})
        space = SearchSpace(
            axes, start, partial(self.opener.open, self.runtime), lambda forward: self.check(forward, self.runtime), self._batch
        )
        measured, cached = measured_once("tuning", [*facts, self.runtime, axes], lambda: dict(search(space, self.cells).as_json()))
        return cast("TuningDocument", {**measured, "cached": cached})

    def _batch(self, cell: Cell) -> dict[str, np.ndarray]:
        return random_batch(np.random.default_rng(0), self.vocab_size, cell.batch_size, cell.seq_len or self.longest)

    def _openvino_is_correct(self, point: Point) -> bool:
        """Return whether OpenVINO is installed and computes the right logits; prints why not."""
        if not has_openvino():
            console.info("  OpenVINO is not installed, so ONNX Runtime serves everything (pip install 'bert-compress[openvino]')")
            return False
        try:
            wrong = self.check(self.opener.open(OPENVINO, point, self.cells[0].threads), OPENVINO)
        except ModelError as error:
            wrong = error.message
        if wrong is not None:
            console.warn(f"OpenVINO is not used: {wrong}")
        return wrong is None

    def _compare_runtimes(self, point: Point) -> dict[str, object]:
        runtimes = {runtime: partial(self.opener.open, runtime, point) for runtime in (ONNXRUNTIME, OPENVINO)}
        routes, cells = compare_runtimes(runtimes, self._batch, self.cells)
        return {"routes": routes, "cells": cells}


class _Opener:
    """Opens points in a runtime; the most recent graphs are kept as bytes."""

    def __init__(self, graphs: TunableGraphs, openvino_floats: str, scratch: Path) -> None:
        self.graphs, self.openvino_floats, self.scratch = graphs, openvino_floats, scratch
        self._bytes: dict[str, bytes] = {}

    def open(self, runtime: str, point: Point, threads: int) -> Forward:
        """Open a point.

        Raises:
            ModelError: the runtime cannot read the graph.
        """
        if runtime == ONNXRUNTIME:
            return session_forward(open_session(self._serialized(point), threads, "cpu", without_lingering_threads(session_hints(point))))
        build = self.graphs.build_openvino
        folder = self.scratch / ("openvino" if build else digests.digest_json(point))  # OpenVINO may read weights from the file later
        if not folder.exists():
            folder.mkdir()
            (folder / GRAPH).write_bytes(build().SerializeToString() if build else self._serialized(point))
        return openvino_forward(folder, self.openvino_floats, "cpu", threads)

    def _serialized(self, point: Point) -> bytes:
        name = describe_point({axis: point[axis] for axis in self.graphs.axes})
        if name not in self._bytes:
            if len(self._bytes) == KEPT_GRAPHS:
                self._bytes.pop(next(iter(self._bytes)))
            self._bytes[name] = self.graphs.build(point).SerializeToString()
        return self._bytes[name]


def _cells(settings: TuneSettings, longest: int) -> list[Cell]:
    lengths = list(dict.fromkeys(min(length, longest) for length in settings.seq_len))
    return [Cell(threads, batch, length) for threads in settings.threads for batch in settings.batch_size for length in lengths]


def _options(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the axes of ONNX Runtime's options; spinning matters only with several threads."""
    return {axis: values for axis, values in OPTIONS.items() if axis != "spinning" or any(cell.threads > 1 for cell in cells)}


def structure_digest(graph: onnx.ModelProto) -> str:
    """Return a digest of a graph that does not depend on the values of its weights."""
    facts: list[object] = [node.SerializeToString(deterministic=True).hex() for node in graph.graph.node]
    facts += [[tensor.name, tensor.data_type, list(tensor.dims)] for tensor in graph.graph.initializer]
    return digests.digest_json(facts)


def _announce(tuning: TuningDocument, routes: Sequence[Route]) -> None:
    """Print what was chosen, and by how much it is faster."""
    if "cells" in tuning:
        console.info(f"  fastest form: {describe_point(tuning.get('winner', {}))} ({_gains(tuning['cells'])})")
    if "runtimes" in tuning:
        console.info(f"  OpenVINO compared with ONNX Runtime ({_gains(tuning['runtimes'])})")
        limits = ["" if route["up_to"] is None else f" up to {route['up_to']} tokens" for route in routes]
        parts = [f"{route['runtime']}{limit}" for route, limit in zip(routes, limits, strict=True)]
        console.info(f"  runtime: {', then '.join(parts)}")


def _gains(cells: Sequence[dict[str, object]]) -> str:
    return ", ".join(f"b{cell['batch_size']} s{cell['seq_len']} t{cell['threads']} {cell['speedup']:.2f}x" for cell in cells)
