"""The calibration of predicted speeds by one that was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SpeedCalibration:
    """A latency as it is measured is taken for `fixed` + `slope` x the predicted one, both as shares of the baseline's.

    `most`: times the predicted speedup that a corrected one can be. A line through a model that was faster than predicted would make still
    faster ones infinitely fast.
    """

    fixed: float = 0.0
    slope: float = 1.0
    most: float = math.inf

    @staticmethod
    def through(known: float, predicted: float, measured: float) -> SpeedCalibration:
        """Return the line through two speedups: one that is known, and one that was predicted and then measured."""
        slope = (1 / known - 1 / measured) / (1 / known - 1 / predicted)
        return SpeedCalibration((1 - slope) / known, slope, measured / predicted if measured > predicted else math.inf)

    def corrected(self, predicted: float) -> float:
        """Return a predicted speedup as it would be measured."""
        return min(1 / max(self.fixed + self.slope / predicted, 1e-9), self.most * predicted)
