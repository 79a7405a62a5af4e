"""`--method auto`: the fastest int8 method within the accuracy budget; if none is, the most sensitive matmuls stay float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from compress.benchmark.microbenchmark import measure_speedup, random_batch
from compress.core import console
from compress.core.errors import GateMissed
from compress.data.metrics import describe_drop
from compress.export.runtime_hints import RUNTIME_HINTS
from compress.export.verify import subsample
from compress.inference.batches import Forward, run_batches
from compress.inference.onnx_session import open_session, session_forward
from compress.quantize.sensitivity import FloatGroups, rank_by_sensitivity, search_float_groups
from compress.quantize.variants import GraphVariants
from compress.results.graphs import CandidateDocument, FloatGroup

METHODS = ("dynamic", "static")
GPU_METHODS = ("static",)  # GPUs have no kernel that finds the range of each batch
TIMED_LENGTH = 32
RANKED_EXAMPLES = 128  # on which groups are ranked
PointsLost = Callable[[Forward, str], float]  # of a graph with this name, on validation


@dataclass
class MethodChoice:
    """The method to use.

    Attributes:
        method: the method.
        graph: its graph.
        candidates: what was measured of each method.
        float_groups: the groups that stay float, with the reasons.
        passing: the graphs of all methods within the accuracy budget.
    """

    method: str
    graph: onnx.ModelProto
    candidates: list[CandidateDocument] = field(default_factory=list)
    float_groups: list[FloatGroup] = field(default_factory=list)
    passing: dict[str, onnx.ModelProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.passing = self.passing or {self.method: self.graph}


def open_graph(graph: onnx.ModelProto, threads: int | None = None) -> Forward:
    """Open a graph in ONNX Runtime with the hints that artifacts record by default."""
    return session_forward(open_session(graph.SerializeToString(), threads, "cpu", RUNTIME_HINTS))


def search_method(variants: GraphVariants, points_lost: PointsLost, limit: float, reference: Forward, vocab_size: int) -> MethodChoice:
    """Return the fastest of `METHODS` (for a GPU: static) within the accuracy budget, else the graph of the sensitivity gate.

    Args:
        variants: with calibration examples.
        points_lost: scores a graph on validation.
        limit: the points that may be lost.
        reference: the float graph.
        vocab_size: for random tokens.

    Raises:
        GateMissed: with `max_drop`, and even with every matmul in float more is lost.
    """
    max_drop = variants.settings.max_drop
    methods = GPU_METHODS if variants.target.gpu else METHODS
    graphs = {method: variants.graph(method) for method in methods}
    lost = {method: points_lost(open_graph(graph), f"{method} int8") for method, graph in graphs.items()}
    speedup = _static_speedup(graphs, vocab_size) if variants.target.here else None
    candidates = _candidates(lost, speedup)
    passing = [method for method in methods if lost[method] <= limit]
    if passing:
        interval = speedup[1] if speedup else None
        method = faster_method(passing, lost, interval)
        console.info(f"  kept: {method} ({_reason(passing, lost, interval, limit)})")
        return MethodChoice(method, graphs[method], candidates, passing={name: graphs[name] for name in passing})
    del graphs
    method = min(methods, key=lambda name: lost[name])
    console.info(f"  every method loses more than {limit:g} points: searching for the matmuls that must stay float in the {method} graph")
    gated = _keep_sensitive_groups_float(variants, method, limit, lost[method], points_lost, reference)
    if gated is not None:
        return MethodChoice(method, gated[0], candidates, gated[1])
    if max_drop is not None:
        raise GateMissed(
            f"even with every matmul in float more than --max-drop {max_drop:g} points are lost on validation",
            "allow more, or serve the float artifact",
        )
    console.warn(f"{method} int8 loses {lost[method]:.2f} points, and keeping matmuls in float does not help; give --max-drop to refuse")
    return MethodChoice(method, variants.graph(method), candidates)


def faster_method(passing: Sequence[str], lost: dict[str, float], interval: Sequence[float] | None) -> str:
    """Return the faster method; the more accurate one if the difference is within the noise, or was not timed.

    Args:
        passing: the methods to choose from.
        lost: points lost by each method.
        interval: 95 % interval of the speedup of the second of `METHODS` over the first.
    """
    if len(passing) == 1 or interval is None or interval[0] <= 1 <= interval[1]:
        return min(passing, key=lambda name: lost[name])
    return METHODS[1] if interval[0] > 1 else METHODS[0]


def _reason(passing: Sequence[str], lost: dict[str, float], interval: Sequence[float] | None, limit: float) -> str:
    """Return in words why `faster_method` keeps its method; the arguments are its own, and the points that may be lost."""
    if len(passing) == 1:
        return f"no other loses at most {limit:g} points" if len(lost) > 1 else f"it loses at most {limit:g} points"
    if interval is not None and not interval[0] <= 1 <= interval[1]:
        return "it is faster"
    times = "times were not measured" if interval is None else "times do not differ"
    return f"{times}; {'it loses fewer points' if len({lost[name] for name in passing}) > 1 else 'the accuracy is the same'}"


def _static_speedup(graphs: dict[str, onnx.ModelProto], vocab_size: int) -> tuple[float, list[float]]:
    """Return the speedup of static over dynamic int8, with its 95 % interval."""
    batch = random_batch(np.random.default_rng(0), vocab_size, 1, TIMED_LENGTH)
    before, after = (open_graph(graphs[method], threads=1) for method in METHODS)
    return measure_speedup(before, after, batch)


def _candidates(lost: dict[str, float], speedup: tuple[float, list[float]] | None) -> list[CandidateDocument]:
    """Return and print what was measured of each method."""
    candidates: list[CandidateDocument] = [{"method": method, "drop_points": points} for method, points in lost.items()]
    if speedup:
        candidates[1]["speedup"] = {"vs": METHODS[0], "ratio": speedup[0], "ci95": speedup[1]}
    for entry in candidates:
        timing = entry.get("speedup")
        timed = f", {timing['ratio']:.2f}x as fast as {timing['vs']} [{timing['ci95'][0]:.2f}, {timing['ci95'][1]:.2f}]" if timing else ""
        console.info(f"  {entry['method']} int8: {describe_drop(entry['drop_points'])} on validation{timed}")
    return candidates


def _keep_sensitive_groups_float(
    variants: GraphVariants, method: str, limit: float, lost: float, points_lost: PointsLost, reference: Forward
) -> tuple[onnx.ModelProto, list[FloatGroup]] | None:
    """Return the graph with the groups that the sensitivity gate keeps float, and the reasons; None if it cannot pass."""
    groups = variants.groups
    sensitivity = _sensitivities(variants, method, reference)
    known = {frozenset[str](): lost}

    def lost_with(floats: FloatGroups) -> float:
        if floats not in known:
            graph = open_graph(variants.graph(method, floats))
            known[floats] = points_lost(graph, f"with {len(floats)} of {len(groups)} groups in float")
        return known[floats]

    gate = search_float_groups(list(sensitivity), lost_with, limit)
    if gate is None:
        return None
    entries: list[FloatGroup] = []
    for group in gate.floats:
        restored, points = sensitivity[group], gate.lost_without[group]
        reason = f"in float it removes {100 * restored:.0f} % of the squared error of the logits; in int8: {describe_drop(points)}"
        console.info(f"  stays float: {group} ({reason})")
        entries.append({"group": group, "sensitivity": restored, "drop_points_in_int8": points, "reason": reason})
    console.info(f"  {len(gate.floats)} of {len(groups)} groups stay float: {describe_drop(gate.lost)}")
    return variants.graph(method, gate.floats), entries


def _sensitivities(variants: GraphVariants, method: str, reference: Forward) -> dict[str, float]:
    """Rank the groups by how much of the logits' squared error each removes in float, on calibration examples."""
    sample, groups = subsample(variants.calibration, RANKED_EXAMPLES), variants.groups
    expected = run_batches(reference, sample)
    with console.progress("ranking the sensitivity of groups", len(groups) + 1) as advance:

        def squared_error(floats: FloatGroups) -> float:
            logits = run_batches(open_graph(variants.graph(method, floats)), sample)
            advance()
            return float(np.nan_to_num(np.mean((logits - expected) ** 2), nan=np.inf))

        return rank_by_sensitivity(groups, squared_error)
