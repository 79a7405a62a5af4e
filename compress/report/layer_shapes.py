"""The layers that a run's models kept, and how a pruning got there: what the charts of layers show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compress.report.run_folder import Document, Run


def layer_shapes(run: Run) -> tuple[list[Document], list[Document] | None]:
    """Return the layers of the last model that tells them, and those that it had before anything was cut.

    The latter are None where no earlier shape has as many layers: a student that took every second layer of its
    teacher cannot be drawn over it. The former are empty where there is nothing to draw: all layers are alike.
    """
    name, kept = next(((name, stage["layers"]) for name, stage in reversed(run.stages.items()) if stage.get("layers")), ("", []))
    before = next((shape for shape in _shapes_on_the_way(run, name) if len(shape) == len(kept)), None)
    same = before is not None and _drawn(before) == _drawn(kept)
    if kept and (before is None or same) and len(set(_drawn(kept))) == 1:
        return [], None
    return kept, None if same else before


def _drawn(layers: Sequence[Document]) -> list[tuple[Any, Any]]:
    """Return what is drawn of layers: heads and neurons, not the ranks of what is factorized."""
    return [(layer.get("heads"), layer.get("ffn")) for layer in layers]


def _shapes_on_the_way(run: Run, name: str) -> list[list[Document]]:
    """Return the shapes that a stage's ancestors started from or made, the oldest first, then its own."""
    wanted, found = {name}, []
    for ancestor, stage in reversed(run.stages.items()):
        if ancestor in wanted:
            wanted |= set(stage.get("inputs") or {})
            found += [stage[key] for key in ("layers", "layers_before") if stage.get(key)]
    return found[::-1]


def curve_of(run: Run) -> list[Document]:
    """Return the models on the way of the last pruning: two at least, each with its speedup and its score."""
    for stage in reversed(run.stages.values()):
        points = [point for point in stage.get("curve") or [] if point.get("score") is not None and point.get("predicted_speedup")]
        if len(points) > 1:
            return points
    return []
