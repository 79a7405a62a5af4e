"""Reading configs: what is missing or malformed, class names, and the longest input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.models.config import max_tokens, read_config
from compress.models.config_heads import class_names
from compress.models.layout import is_graph
from compress.models.weights_file import check_weights
from tests import tiny
from tests.unit.models.folders import refused

Maker = Callable[..., Path]


def test_a_sound_folder_is_read(checkpoint: Maker, family: str) -> None:
    config = read_config(checkpoint(family))
    check_weights(checkpoint(family), {})
    assert config["model_type"] == family
    assert not is_graph(checkpoint(family))
    assert max_tokens(config) == tiny.POSITIONS


def test_missing_config(tmp_path: Path) -> None:
    assert "no config.json" in refused(tmp_path).message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"bert"', "\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe{}", "[" * 100_000])
def test_config_that_is_not_a_json_object(own_checkpoint: Maker, text: str | bytes) -> None:
    folder = own_checkpoint()
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "config.json" in refused(folder).message


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": {"10": "k", "2": "c", "0": "a"}}, ["a", "c", "k"]),
        ({"id2label": {0: 5, 1: "b"}}, ["5", "b"]),
        ({}, ["LABEL_0", "LABEL_1"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
    ids=str,
)
def test_class_names_come_in_the_order_of_the_logits(config: dict[str, Any], expected: list[str]) -> None:
    assert class_names(config) == expected
