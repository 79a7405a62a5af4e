"""transformers' own prediction = predict = eval = artifact = the card's lines, on random models; `eval/equality.py` runs many."""

from __future__ import annotations

import tempfile
from pathlib import Path

import equality
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000))
def test_random_models_predict_as_in_transformers(seed: int) -> None:
    report = equality.Report()
    with tempfile.TemporaryDirectory() as folder:
        equality.compare_model(Path(folder), seed, 4, report)
    assert not report.differences
    assert report.triples


def test_a_difference_is_reported() -> None:
    report = equality.Report()
    report.compare("here", ("a", 0.5), ("a", 0.5 + 1e-7))
    assert not report.differences
    assert report.largest > 0
    report.compare("here", ("a", 0.5), ("b", 0.5))
    report.compare("there", (None, 0.5), (None, float(np.float32(0.6))))
    assert len(report.differences) == 2
