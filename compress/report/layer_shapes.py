"""The layers that a run's models kept, and how a pruning got there: what the charts of layers show."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report.run_folder import Document, Run


def layer_shapes(run: Run) -> tuple[list[Document], list[Document] | None]:
    """Return the layers of the last model whose layers are recorded, and those before pruning.

    The latter are None if no earlier shape has as many layers: a student with every second layer of its teacher cannot be
    drawn over it. The former are empty if all layers are alike, so that there is nothing to draw.
    """
    name, kept = next(((name, stage["layers"]) for name, stage in reversed(run.stages.items()) if stage.get("layers")), ("", []))
    before = next((shape for shape in _shapes_on_the_way(run, name) if len(shape) == len(kept)), None)
    same = before is not None and _drawn(before) == _drawn(kept)
    if kept and (before is None or same) and len(set(_drawn(kept))) == 1:
        return [], None
    return kept, None if same else before


def _drawn(layers: Sequence[Document]) -> list[tuple[object, ...]]:
    """Return what is drawn of the layers: heads, neurons and tokens, not the ranks of factorized linears."""
    return [(layer.get("heads"), layer.get("ffn"), layer.get("tokens", 1)) for layer in layers]


def _shapes_on_the_way(run: Run, name: str) -> list[list[Document]]:
    """Return the shapes before and after each ancestor of a stage, oldest first, and its own last."""
    ancestors, shapes = {name}, []
    for ancestor, stage in reversed(run.stages.items()):
        if ancestor in ancestors:
            ancestors |= set(stage.get("inputs") or {})
            shapes += [stage[key] for key in ("layers", "layers_before") if stage.get(key)]
    return shapes[::-1]


def curve_of(run: Run) -> list[Document]:
    """Return the intermediate models of the last pruning, at least two, each with its speedup and its score."""
    for stage in reversed(run.stages.values()):
        points = [point for point in stage.get("curve") or [] if point.get("score") is not None and point.get("predicted_speedup")]
        if len(points) > 1:
            return points
    return []
