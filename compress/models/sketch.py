"""Draw a model's layers, and the steps of pruning with speedup and accuracy, for a terminal. No torch in this module."""

from __future__ import annotations

from collections.abc import Sequence

from compress.results import LayerDocument
from compress.results.checkpoints import CurvePoint


def sketch_layers(layers: Sequence[LayerDocument]) -> str:
    """Return two lines: the heads and the FFN neurons of each layer, from the first to the last.

    A third one says what share of a text's tokens is left after each layer's attention, if tokens are dropped.
    """
    heads = " ".join(f"{layer['heads']:>5}" for layer in layers)
    lines = f"  heads {heads}\n  ffn   " + " ".join(f"{layer['ffn']:>5}" for layer in layers)
    if not any("tokens" in layer for layer in layers):
        return lines
    shares = [f"{100 * layer.get('tokens', 1.0):g}%" for layer in layers]
    return f"{lines}\n  tokens" + " ".join(f"{share:>5}" for share in shares)


def sketch_curve(points: Sequence[CurvePoint]) -> str:
    """Return a line for each step of pruning, in their order: speedup, whether it was measured, score, and the target that it ends at."""
    lines = ["  step   speedup             validation"]
    for step, point in enumerate(points, 1):
        measured = point.get("measured_speedup")
        speedup = f"{point['predicted_speedup']:>6.2f}x predicted" if measured is None else f"{measured:>6.2f}x measured "
        target = f"  target {point['target']}" if "target" in point else ""
        lines.append(f"  {step:>4}  {speedup}  {100 * point['score']:>11.2f}{target}")
    return "\n".join(lines)
