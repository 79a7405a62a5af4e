"""Weights as int8 with one scale per output channel."""

from __future__ import annotations

import numpy as np

from compress.export.graph_editing import GraphEditor
from compress.models.int8_ranges import WEIGHT_LEVELS

SEVEN_BIT_LEVELS = 64  # 2 * 255 * 64 fits into the 16-bit sums of processors without VNNI
Codes = tuple[np.ndarray, np.ndarray]  # integers and the scale of each channel


def quantize_weight(weight: np.ndarray, levels: int = WEIGHT_LEVELS) -> Codes:
    """Return int8 codes (in, out) and float32 scales (out,) with `weight ~ codes * scales`: symmetric, per output channel."""
    scale = np.abs(weight).max(axis=0) / levels
    scale[scale == 0] = 1.0
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


class WeightQuantizer:
    """Quantizes the weights of one model, each once for all of its int8 graphs.

    Args:
        seven_bits: keep the codes within 7 bits, for processors that add products in 16 bits.
    """

    def __init__(self, seven_bits: bool = False) -> None:
        self.seven_bits = seven_bits
        self._codes: dict[str, Codes] = {}

    def codes(self, editor: GraphEditor, weight: str) -> Codes:
        """Return the codes and scales of a weight (in, out) of the graph."""
        if weight not in self._codes:
            self._codes[weight] = quantize_weight(editor.array(weight), SEVEN_BIT_LEVELS if self.seven_bits else WEIGHT_LEVELS)
        return self._codes[weight]
