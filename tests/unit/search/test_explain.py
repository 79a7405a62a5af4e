"""The line of a candidate."""

from __future__ import annotations

from compress.search.candidates import SearchCandidate, Speed
from compress.search.estimates import Drop
from compress.search.explain import candidate_line


def test_a_timed_candidate() -> None:
    candidate = SearchCandidate(
        "4x, int8", "int8-4x-2", 4.0, Drop(0.34, 0.5, 872), Speed(15.0, (14.7, 15.3)), 14.0, 62.0, "kept", "keeps the limit"
    )
    line = candidate_line(candidate, 0.88, 12.0)
    assert line.split()[:2] == ["4x,", "int8"]
    assert line.endswith(" 87.66, 0.34 points lost [-0.6, 1.3]; 0.8 ms, 15.0x; 1 min 2 s: kept, keeps the limit")


def test_a_predicted_latency_is_called_so_and_what_is_unknown_is_left_out() -> None:
    candidate = SearchCandidate(
        "4x, pruned only", "slim/4x", 4.0, Drop(3.0, 1.0, 872), Speed(15.0), verdict="dropped", why="not trained yet"
    )
    assert "about 0.8 ms, about 15.0x: dropped, not trained yet" in candidate_line(candidate, 0.88, 12.0)
    bare = candidate_line(SearchCandidate("x", "x", why="unknown"), 0.88, 12.0)
    assert "ms" not in bare
    assert "lost" not in bare
