"""The stage: what a group gets, that it stays shared through distillation, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import UsageError
from compress.models.checkpoint import save_model
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.share.layers import can_share
from tests import tiny
from tests.conftest import Maker

FAST: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"}


def test_equal_groups_need_no_training_split(checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    document = {key: value for key, value in tiny_task.items() if key != "train"}
    found = compress.share(checkpoint(), document, tmp_path / "shared", groups="0-1")
    assert found["metrics"]["validation"]["n"] > 0


def test_layers_of_different_shapes_do_not_share(tiny_task: Any, tmp_path: Path) -> None:
    model = tiny.make_model("mpnet")
    slice_model(model, [Kept([0, 3], [1, 2]), Kept([0, 1], [1, 2]), Kept([0, 1], [5, 6])])
    assert not can_share(model, (0, 0, 2))  # of one size, but heads of other biases
    assert can_share(model, (0, 1, 1))
    folder = tmp_path / "pruned"
    folder.mkdir()
    tiny.write_tokenizer(folder, "mpnet")
    save_model(model, folder, folder)
    with pytest.raises(UsageError, match="different shapes"):
        compress.share(folder, tiny_task, tmp_path / "no", groups="0-1")
    found = compress.share(folder, tiny_task, tmp_path / "shared", layers=2, groups="auto", device="cpu")
    assert found["shared"] == [0, 1, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give layers"),
        ({"layers": 2, "groups": "0-1"}, "give layers"),
        ({"groups": "auto"}, "give layers"),
        ({"layers": 2, "unlabeled": "texts.txt"}, "unlabeled goes with groups auto"),
        ({"layers": 3}, "share nothing"),
        ({"layers": 9, "groups": "auto"}, "share nothing"),
        ({"groups": "0-9"}, "within the model's layers 0 to 2"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: Any, message: str, checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        compress.share(checkpoint(), tiny_task, tmp_path / "out", **fields)
    assert not (tmp_path / "out").exists()
