"""Ranges of static int8 in config.json: exact, checked, and dropped on demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import ModelError
from compress.models.config import read_config
from compress.models.int8_ranges import RANGES_KEY, Range, affine, drop_ranges, range_of, record_ranges, recorded_ranges
from tests import tiny

Maker = Callable[..., Path]


@given(st.floats(2.0**-20, 2.0**20, width=32), st.integers(0, 255))
def test_a_scale_and_a_zero_point_survive_as_a_range(scale: float, zero: int) -> None:
    assert affine(range_of(scale, zero), symmetric=False) == (np.float32(scale), np.uint8(zero))


def test_ranges_are_recorded_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    config = SimpleNamespace()
    record_ranges(config, {"layer.0.ffn.in": Range(-1.0, 2.0)})
    assert recorded_ranges(vars(config)) == {"layer.0.ffn.in": Range(-1.0, 2.0)}
    drop_ranges(config, "something changed them")
    drop_ranges(config, "once")
    assert recorded_ranges(vars(config)) == {}
    assert capsys.readouterr().err.count("are dropped: something changed them") == 1


@pytest.mark.parametrize(
    "entry",
    [
        [],
        "int8",
        {"pooler": [0.0]},
        {"pooler": [1.0, 2.0]},
        {"pooler": [-1.0, float("inf")]},
        {"pooler": [-1e300, 1.0]},
        {"pooler": ["0", 1]},
    ],
)
def test_malformed_ranges_are_refused(own_checkpoint: Maker, entry: object) -> None:
    folder = tiny.edit_config(own_checkpoint(), **{RANGES_KEY: entry})
    with pytest.raises(ModelError, match=r"compress_int8_ranges|cannot be read"):
        read_config(folder)
