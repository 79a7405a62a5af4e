"""Accuracy against latency: labels and the Pareto front."""

from __future__ import annotations

from compress.report.scatter import _free_place, _overlap, pareto_front


def test_labels_of_the_scatter_do_not_overlap() -> None:
    taken = [(90.0, 90.0, 104.0, 104.0)]
    boxes = []
    for _ in range(6):
        box = _free_place(97, 97, 60, taken)[2]
        assert all(_overlap(box, other) == 0 for other in taken)
        taken.append(box)
        boxes.append(box)
    assert len(set(boxes)) == 6


def test_the_pareto_front() -> None:
    assert pareto_front([(5, 90), (1, 80), (2, 79), (5, 95), (9, 95)]) == [(1, 80), (5, 95)]
    assert pareto_front([]) == []
