"""Shapes and curves, drawn for a terminal."""

from __future__ import annotations

from compress.models.sketch import sketch_layers


def test_sketch_has_a_column_a_layer() -> None:
    heads, ffn = sketch_layers([{"heads": 12, "ffn": 3072}, {"heads": 0, "ffn": 16}]).splitlines()
    assert heads.split() == ["heads", "12", "0"]
    assert ffn.split() == ["ffn", "3072", "16"]
    assert len(heads) == len(ffn)
