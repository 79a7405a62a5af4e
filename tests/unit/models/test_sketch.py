"""Shapes and curves, drawn for a terminal."""

from __future__ import annotations

from compress.models.sketch import sketch_curve, sketch_layers


def test_sketch_has_a_column_a_layer() -> None:
    heads, ffn = sketch_layers([{"heads": 12, "ffn": 3072}, {"heads": 0, "ffn": 16}]).splitlines()
    assert heads.split() == ["heads", "12", "0"]
    assert ffn.split() == ["ffn", "3072", "16"]
    assert len(heads) == len(ffn)


def test_sketch_shows_tokens_where_they_are_dropped() -> None:
    heads, _, tokens = sketch_layers([{"heads": 12, "ffn": 16}, {"heads": 12, "ffn": 16, "tokens": 0.45}]).splitlines()
    assert tokens.split() == ["tokens", "100%", "45%"]
    assert len(tokens) == len(heads)


def test_steps_keep_their_order_and_say_what_was_measured() -> None:
    steps = [
        {"predicted_speedup": 2.5, "score": 0.875, "layers": []},
        {"predicted_speedup": 3.1, "measured_speedup": 2.44, "target": "3x", "score": 0.86, "layers": []},
    ]
    _, first, last = sketch_curve(steps).splitlines()
    assert first.split() == ["1", "2.50x", "predicted", "87.50"]
    assert last.split() == ["2", "2.44x", "measured", "86.00", "target", "3x"]
