"""What each target requires of weights and activations."""

from __future__ import annotations

from typing import Any

import pytest

from compress.quantize.instruction_sets import hardware_target, needs_seven_bits


@pytest.mark.parametrize(
    ("name", "flags", "here", "seven_bits", "symmetric"),
    [
        ("auto", ["avx2"], True, True, False),
        ("auto", ["avx2", "avx512f", "avx512_vnni"], True, False, False),
        ("auto", ["asimd", "asimddp"], True, False, True),
        ("amx", ["avx512_vnni"], False, False, False),
        ("amx", ["amx_int8"], True, False, False),
        ("vnni", ["avx_vnni"], True, False, False),
        ("vnni", ["avx2"], False, False, False),
        ("avx2", ["avx2", "avx512_vnni"], True, True, False),
        ("arm64", ["avx2"], False, False, True),
    ],
)
def test_targets(name: Any, flags: list[str], here: bool, seven_bits: bool, symmetric: bool, capsys: pytest.CaptureFixture[str]) -> None:
    target = hardware_target(name, flags)
    assert (target.here, target.seven_bits, target.symmetric) == (here, seven_bits, symmetric)
    assert ("warning: this processor has no" in capsys.readouterr().err) is not here


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], True),
        (["avx2"], True),
        (["avx2", "avx512f"], True),
        (["avx512f", "avx512_vnni"], False),
        (["avx_vnni"], False),
        (["amx_int8"], False),
        (["asimd"], True),
        (["asimd", "asimddp"], False),
    ],
)
def test_seven_bits_without_wide_dot_products(flags: list[str], expected: bool) -> None:
    assert needs_seven_bits(flags) is expected
