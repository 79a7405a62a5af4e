"""Draw a model's layers, and a curve of speedup and accuracy, for a terminal. No torch in this module."""

from __future__ import annotations

from collections.abc import Sequence

from compress.results import LayerDocument


def sketch_layers(layers: Sequence[LayerDocument]) -> str:
    """Return two lines: the heads and the FFN neurons of each layer, from the first to the last."""
    heads = " ".join(f"{layer['heads']:>5}" for layer in layers)
    return f"  heads {heads}\n  ffn   " + " ".join(f"{layer['ffn']:>5}" for layer in layers)


def sketch_curve(points: Sequence[tuple[float, float]], width: int = 40) -> str:
    """Return a line with a bar for each (speedup, score); bars start just below the lowest score, so that losses show."""
    low = min(score for _, score in points)
    high = max(score for _, score in points)
    floor = low - max(0.01, 0.25 * (high - low))
    bars = ["#" * max(1, round(width * (score - floor) / (high - floor))) for _, score in points]
    return "\n".join(f"  {speedup:>6.2f}x  {100 * score:6.2f} {bar}" for (speedup, score), bar in zip(points, bars, strict=True))
