"""How far the logits of an exported graph may differ from PyTorch's."""

from __future__ import annotations

from compress.export.verify import Verification

TRIED_EXAMPLES = 12  # each variant of a graph is verified on these before it is timed; the one kept is verified on all
TOLERANCE = 1e-3
BF16_TOLERANCE = 0.05  # share of the largest logit


def difference(verification: Verification, precision: str, tolerance: float | None) -> str | None:
    """Return what is wrong; None if all logits are within the tolerance.

    Args:
        verification: of the graph against PyTorch.
        precision: in which the graph is computed: `fp32` or `bf16`.
        tolerance: the largest absolute difference; None: the default of the precision.
    """
    limit = TOLERANCE if tolerance is None else tolerance
    if is_relative(precision, tolerance):
        limit = BF16_TOLERANCE * verification.largest
    if verification.max_abs <= limit:
        return None
    return f"differs from PyTorch by {verification.max_abs:.2e} on '{verification.worst_case}', more than {limit:g}"


def is_relative(precision: str, tolerance: float | None) -> bool:
    """Return whether the tolerance is a share of the largest logit: by default in bf16."""
    return tolerance is None and precision == "bf16"
