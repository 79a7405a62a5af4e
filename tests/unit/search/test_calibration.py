"""The calibration of predicted speeds."""

from __future__ import annotations

import pytest

from compress.search.calibration import SpeedCalibration


def test_the_line_goes_through_both_speedups() -> None:
    line = SpeedCalibration.through(4.9, 40.2, 23.3)
    assert line.corrected(4.9) == pytest.approx(4.9)
    assert line.corrected(40.2) == pytest.approx(23.3)
    assert 15 < line.corrected(22.4) < 18


def test_without_a_measurement_nothing_changes() -> None:
    assert SpeedCalibration().corrected(17.0) == pytest.approx(17.0)


def test_a_prediction_that_was_right_changes_nothing() -> None:
    assert SpeedCalibration.through(4.9, 40.0, 40.0).corrected(20.0) == pytest.approx(20.0)


def test_a_model_that_was_faster_than_predicted_makes_no_other_infinitely_fast() -> None:
    calibration = SpeedCalibration.through(5.0, 20.0, 25.0)
    assert calibration.corrected(5.0) == pytest.approx(5.0)
    assert calibration.corrected(20.0) == pytest.approx(25.0)
    assert calibration.corrected(200.0) == pytest.approx(250.0)
