"""`--method auto`: the fastest form that keeps the accuracy; where none does, the most sensitive matmuls stay float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from compress.benchmark.microbenchmark import measure_speedup, random_batch
from compress.core import console
from compress.core.errors import GateMissed
from compress.export import RUNTIME_HINTS
from compress.inference.batches import Forward, run_batches
from compress.inference.onnx_session import open_session, session_forward
from compress.quantize.sensitivity import Floats, search_float_groups, sensitivities
from compress.quantize.variants import GraphVariants

METHODS = ("dynamic", "static")
GPU_METHODS = ("static",)  # a GPU has no kernel that looks for the range of each batch
TOLERATED = 0.5  # points, where no --max-drop was given
TIMED_LENGTH = 32
RANKED_EXAMPLES = 128  # on which groups are ranked


@dataclass
class Choice:
    """A method, its graph, what stayed float and why, what the candidates measured, and the graphs of all that are accurate enough."""

    method: str
    graph: onnx.ModelProto
    candidates: list[dict[str, Any]] = field(default_factory=list)
    float_groups: list[dict[str, Any]] = field(default_factory=list)
    passing: dict[str, onnx.ModelProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.passing = self.passing or {self.method: self.graph}


def open_graph(graph: onnx.ModelProto, threads: int | None = None) -> Forward:
    """Open a graph as the artifact will be opened."""
    return session_forward(open_session(graph.SerializeToString(), threads, "cpu", RUNTIME_HINTS))


def choose(forms: GraphVariants, drop: Callable[[Forward, str], float], reference: Forward, vocab_size: int) -> Choice:
    """Return the fastest of `METHODS` (for a GPU: static) that loses at most the points allowed, else the sensitivity gate's graph.

    Args:
        forms: with calibration examples.
        drop: points lost on validation by a model with this name.
        reference: the float graph.
        vocab_size: of the timed tokens.

    Raises:
        GateMissed: `max_drop` is given, and even with every product in float more is lost.
    """
    given = forms.settings.max_drop
    limit = TOLERATED if given is None else given
    methods = GPU_METHODS if forms.target.gpu else METHODS
    graphs = {method: forms.graph(method) for method in methods}
    drops = {method: drop(open_graph(graph), f"{method} int8") for method, graph in graphs.items()}
    gains = _timed([graphs[method] for method in METHODS], vocab_size) if forms.target.here else None
    candidates = [{"method": method, "drop_points": lost} for method, lost in drops.items()]
    if gains:
        candidates[1]["speedup"] = {"vs": METHODS[0], "ratio": gains[0], "ci95": gains[1]}
    _announce(candidates)
    passing = [method for method in methods if drops[method] <= limit]
    if passing:
        method = faster(passing, drops, gains[1] if gains else None)
        return Choice(method, graphs[method], candidates, passing={name: graphs[name] for name in passing})
    method = min(methods, key=lambda name: drops[name])
    console.info(f"  more is lost than {limit:g} points: looking for what has to stay float in the {method} form")
    del graphs
    found = _gated(forms, method, limit, drops[method], drop, reference)
    if found is not None:
        return Choice(method, found[0], candidates, found[1])
    if given is not None:
        raise GateMissed(
            f"even with every product in float more than --max-drop {given:g} points are lost on validation",
            "allow more, or serve the float artifact",
        )
    console.warn(f"{method} int8 loses {drops[method]:.2f} points, and keeping matmuls in float does not help; give --max-drop to refuse")
    return Choice(method, forms.graph(method), candidates)


def faster(passing: Sequence[str], drops: dict[str, float], interval: Sequence[float] | None) -> str:
    """Return the faster of the methods that pass; the more accurate where the difference is within the noise (or not timed).

    `interval` is that of the speedup of the second of `METHODS` over the first.
    """
    if len(passing) == 1 or interval is None or interval[0] <= 1 <= interval[1]:
        return min(passing, key=lambda name: drops[name])
    return METHODS[1] if interval[0] > 1 else METHODS[0]


def _timed(graphs: Sequence[onnx.ModelProto], vocab_size: int) -> tuple[float, list[float]]:
    batch = random_batch(np.random.default_rng(0), vocab_size, 1, TIMED_LENGTH)
    before, after = (open_graph(graph, threads=1) for graph in graphs)
    return measure_speedup(before, after, batch)


def _announce(candidates: list[dict[str, Any]]) -> None:
    for entry in candidates:
        gain = entry.get("speedup")
        timed = f", {gain['ratio']:.2f}x as fast as {gain['vs']} [{gain['ci95'][0]:.2f}, {gain['ci95'][1]:.2f}]" if gain else ""
        console.info(f"  {entry['method']} int8: {entry['drop_points']:+.2f} points lost on validation{timed}")


def _gated(
    forms: GraphVariants, method: str, limit: float, lost: float, drop: Callable[[Forward, str], float], reference: Forward
) -> tuple[onnx.ModelProto, list[dict[str, Any]]] | None:
    """Return the graph with what the gate keeps in float, and these groups with their reasons; None where it cannot pass."""
    ranked = forms.data.take(np.linspace(0, len(forms.data) - 1, min(RANKED_EXAMPLES, len(forms.data))).astype(int))
    expected = run_batches(reference, ranked)
    groups = forms.groups
    with console.progress("ranking what is sensitive", len(groups) + 1) as advance:

        def error(floats: Floats) -> float:
            found = run_batches(open_graph(forms.graph(method, floats)), ranked)
            advance()
            return float(np.nan_to_num(np.mean((found - expected) ** 2), nan=np.inf))

        gains = sensitivities(groups, error)
    known = {frozenset[str](): lost}

    def lost_with(floats: Floats) -> float:
        if floats not in known:
            known[floats] = drop(open_graph(forms.graph(method, floats)), f"with {len(floats)} of {len(groups)} groups in float")
        return known[floats]

    gate = search_float_groups(list(gains), lost_with, limit)
    if gate is None:
        return None
    entries = []
    for group in gate.floats:
        restored, lost = gains[group], gate.without[group]
        reason = f"in float it takes away {100 * restored:.0f} % of the logits' squared error; in int8 {lost:.2f} points are lost"
        console.info(f"  stays float: {group} ({reason})")
        entries.append({"group": group, "sensitivity": restored, "drop_points_in_int8": lost, "reason": reason})
    console.info(f"  {len(gate.floats)} of {len(groups)} groups stay float: {gate.drop:+.2f} points lost")
    return forms.graph(method, gate.floats), entries
