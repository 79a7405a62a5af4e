"""The README's picture is drawn from the results page."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from eval import picture

TABLE = """
| candidate | accuracy (p) | MB | b1 s32 t1 |
| --- | --: | --: | --: |
| PyTorch fp32 | 88.3 [86.0, 90.3] | 90.9 | 12.31 (1.00x [1.00, 1.00]) |
| compress int8 | 88.4 [86.1, 90.4] (1.00) | 23.7 | 3.03 (4.07x [3.99, 4.13]) |
| a peer that failed | cannot be installed | | |
| A/A control |  |  | 12.08 (1.02x [1.01, 1.03]) |
"""


def test_candidates_are_the_rows_with_an_accuracy_and_a_latency() -> None:
    pytorch, ours = picture.candidates(TABLE)
    assert (pytorch.name, pytorch.accuracy, pytorch.low, pytorch.high, pytorch.latency) == ("PyTorch fp32", 88.3, 86.0, 90.3, 12.31)
    assert (ours.kind, pytorch.kind) == ("ours", "peer")


def test_a_page_without_the_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="no table"):
        picture.candidates(TABLE, "b8 s512 t4")


def test_the_picture_is_current_and_names_every_candidate() -> None:
    points = picture.candidates(picture.RESULTS.read_text(encoding="utf-8"))
    drawn = picture.draw(points)
    assert drawn == picture.PICTURE.read_text(encoding="utf-8"), "run: python eval/picture.py"
    texts = {element.text for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314 - our own text
    assert {point.name for point in points} <= texts


def test_names_do_not_overlap() -> None:
    points = [picture.Candidate(f"candidate {n}", 88.0, 86.0, 90.0, 3.0 + n / 10) for n in range(6)]
    rows = picture.label_rows({point: 300.0 + 9 * n for n, point in enumerate(points)})
    assert sorted(rows.values()) == list(range(6))
