"""The sentences at the top of the page."""

from __future__ import annotations

import pytest

from compress.report.run_folder import Run
from compress.report.summary import summarize
from compress.report.verdict import verdict
from tests.unit.report.documents import bench, evaluation


def measured_ratio(ratio: float, low: float, high: float) -> str:
    stage = bench(["a", "b"], lengths=(32,))
    stage["results"][1]["speedup"] = {"vs": "a", "ratio": ratio, "ci95": [low, high]}
    run = Run({}, {"speed": stage}, {}, "")
    return verdict(run, summarize(run))[0]


def test_verdict_on_a_model_that_is_not_faster() -> None:
    assert measured_ratio(0.5, 0.4, 0.8).startswith("b is 2.0× slower than a in PyTorch fp32 (95 % interval 1.2 to 2.5)")
    assert "as fast as a in PyTorch fp32 within the noise (ratio 1.01, 95 % interval 0.97 to 1.04)" in measured_ratio(1.01, 0.97, 1.04)


def test_verdict_on_a_real_loss() -> None:
    stage = evaluation(["a", "b"])
    stage["results"][1]["vs_first"] |= {"delta": -0.031, "ci95": [-0.05, -0.012], "p_value": 0.00004}
    run = Run({}, {"proof": stage}, {}, "")
    sentence = verdict(run, summarize(run))[0]
    assert "b loses 3.1 points of accuracy against a (95 % interval of the change −5.0 to −1.2, p < 0.001) on" in sentence
    assert "not distinguishable" not in sentence


@pytest.mark.parametrize(("low", "high", "shown"), [(0.97, 1.02, False), (0.72, 1.05, True)])
def test_a_noisy_machine_is_named(low: float, high: float, shown: bool) -> None:
    stage = bench(["a", "b"], lengths=(32,)) | {"control": [{"ratio": 1.0, "ci95": [low, high]}]}
    run = Run({}, {"speed": stage}, {}, "")
    text = " ".join(verdict(run, summarize(run)))
    assert ("differences below 28 % are noise" in text) is shown
