"""The targets of a run: what was asked for, as budgets of the costs."""

from __future__ import annotations

from compress.core.errors import UsageError
from compress.prune.structured import COARSE, Goal, Pruner


def goals_of(pruner: Pruner) -> list[Goal]:
    """Return the targets, the mildest first.

    Raises:
        UsageError: a target that cannot be reached, or is reached already.
    """
    settings, costs, before = pruner.settings, pruner.costs, pruner.before
    whole = costs.total(before)
    if not before.flops(pruner.seq_len):
        raise UsageError(f"{pruner.source.name} has no heads and no neurons left to remove", "start from the model that it was cut from")
    if pruner.kind != "time":
        share = settings.target_flops or settings.target_params or 1.0
        return [Goal(f"{share:g}", share * whole)]
    speedups = sorted(set(settings.target_speedup or []))
    if settings.target_latency_ms is not None:
        speedups = [pruner.dense_ms / settings.target_latency_ms]
        if speedups[0] <= 1:
            raise UsageError(
                f"the model takes {pruner.dense_ms:.2f} ms already ({pruner.serving.describe()})",
                f"ask for less than that, not for {settings.target_latency_ms:g} ms",
            )
    limit = whole / costs.total(pruner.smallest)
    for wanted in speedups:
        if settings.method not in COARSE and wanted >= limit:
            left = f"one layer of {pruner.smallest.layers[0].ffn} neurons" if settings.uniform else "a single head"
            raise UsageError(
                f"a speedup of {wanted:.3g} is out of reach: with {left} left this model would be {limit:.1f}x as fast "
                f"({pruner.serving.describe()})",
                "choose a smaller target, or quantize as well (--precision int8 times that)",
            )
    return [Goal(f"{wanted:.3g}x", whole / wanted, wanted) for wanted in speedups]
