"""The targets of a run: the requested sizes or speeds, as budgets in the unit of the costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from compress.core.errors import UsageError
from compress.models import shape as shapes
from compress.prune.cost_model import CostModel
from compress.prune.methods import COARSE
from compress.prune.uniform import least_plain
from compress.settings import PruneSettings


class OutOfReach(UsageError):
    """A speedup that no pruned model reaches; `limit` is that of the smallest one."""

    def __init__(self, message: str, hint: str, limit: float) -> None:
        super().__init__(message, hint)
        self.limit = limit


@dataclass(frozen=True)
class PruneTarget:
    """A size or a speed to reach.

    Attributes:
        name: of the target, and of its folder where there are several.
        budget: the most that a model may cost, in the cost model's unit.
        share: the share of FLOPs or parameters to keep, where these are the target.
        speedup: the measured speedup to reach, where time is the target.
    """

    name: str
    budget: float
    share: float | None = None
    speedup: float | None = None

    @property
    def value(self) -> float:
        """The speedup to reach, or the share to keep."""
        return self.speedup or self.share or 0.0


def smallest_shape(dense: shapes.Shape, uniform: bool) -> shapes.Shape:
    """Return the smallest shape that pruning units can reach: one head in the first layer; with `uniform` one plain layer.

    Where layers share weights, it is one head in those of the group that has the fewest.
    """
    if uniform:
        return least_plain(dense)
    owners = dense.shared or range(len(dense.layers))
    uses = Counter(owners)
    kept = min(uses, key=lambda owner: (uses[owner], owner))
    return replace(dense, layers=tuple(shapes.LayerShape(int(owner == kept), 0) for owner in owners))


def targets_of(settings: PruneSettings, cost_model: CostModel, model_name: str) -> list[PruneTarget]:
    """Return the targets of the settings, the mildest first.

    Raises:
        UsageError: a target that no model can reach, or that the dense model has reached already.
    """
    dense, dense_cost = cost_model.dense, cost_model.dense_cost
    if not dense.flops(cost_model.seq_len):
        raise UsageError(f"{model_name} has no heads and no neurons left to remove", "start from the model that it was cut from")
    if cost_model.unit != "time":
        share = settings.target_flops or settings.target_params or 1.0
        return [PruneTarget(f"{share:g}", share * dense_cost, share=share)]
    if settings.target_latency_ms is not None:
        speedups = [_speedup_for(settings.target_latency_ms, cost_model)]
    else:
        speedups = sorted(set(settings.target_speedup or []))
    if settings.method not in COARSE:
        _check_reachable(speedups, cost_model, settings.uniform)
    return [PruneTarget(f"{speedup:.3g}x", dense_cost / speedup, speedup=speedup) for speedup in speedups]


def _speedup_for(latency_ms: float, cost_model: CostModel) -> float:
    """Return the speedup that brings the dense model to a latency.

    Raises:
        UsageError: it is that fast already.
    """
    speedup = cost_model.dense_ms / latency_ms
    if speedup <= 1:
        raise UsageError(
            f"the model takes {cost_model.dense_ms:.2f} ms already ({cost_model.conditions})",
            f"ask for less than that, not for {latency_ms:g} ms",
        )
    return speedup


def _check_reachable(speedups: list[float], cost_model: CostModel, uniform: bool) -> None:
    """Refuse speedups beyond that of the smallest shape.

    Raises:
        OutOfReach: one is.
    """
    smallest = smallest_shape(cost_model.dense, uniform)
    limit = cost_model.dense_cost / cost_model.costs.total(smallest)
    for speedup in speedups:
        if speedup >= limit:
            remainder = f"one layer of {smallest.layers[0].ffn} neurons" if uniform else "a single head"
            raise OutOfReach(
                f"a speedup of {speedup:.3g} is out of reach: with {remainder} left this model would be {limit:.1f}x as fast "
                f"({cost_model.conditions})",
                f"ask for a speedup below {limit:.1f}; 'compress quantize' makes the pruned model faster still",
                limit,
            )
