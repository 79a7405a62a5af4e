"""How far an exported graph may differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compress.export.tolerance import BF16_TOLERANCE, TOLERANCE, difference, is_relative
from compress.export.verify import Verification

MEASURED = Verification(max_abs=0.0, max_rel=0.0, agreement=1.0, examples=8, worst_case="batch 2", cases=["batch 2"], largest=4.0)


@pytest.mark.parametrize(
    ("precision", "tolerance", "limit"),
    [("fp32", None, TOLERANCE), ("fp32", 0.5, 0.5), ("bf16", None, 4 * BF16_TOLERANCE), ("bf16", 0.5, 0.5)],
)
def test_the_limit_itself_passes(precision: str, tolerance: float | None, limit: float) -> None:
    assert difference(replace(MEASURED, max_abs=limit), precision, tolerance) is None
    wrong = difference(replace(MEASURED, max_abs=1.01 * limit), precision, tolerance)
    assert wrong is not None
    assert "on 'batch 2'" in wrong
    assert wrong.endswith(f"more than {limit:g}")


def test_only_bf16_is_relative_by_default() -> None:
    assert is_relative("bf16", None)
    assert not is_relative("bf16", 0.1)
    assert not is_relative("fp32", None)
