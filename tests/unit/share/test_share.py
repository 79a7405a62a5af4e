"""The stage: what a group gets, that it stays shared through distillation, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import UsageError
from compress.models.checkpoint import load_model, save_model
from compress.models.model_shape import count_params
from compress.models.sharing import owners_of
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.share.layers import can_share
from tests import tiny
from tests.conftest import Maker

FAST: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"}


def test_a_shared_model_goes_every_way_that_it_can(checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    """Distilled, exported, quantized and measured, and still shared; not pruned, factorized, shared again, or given adapters."""
    folder, plain = tmp_path / "shared", checkpoint()
    found = compress.share(plain, tiny_task, folder, layers=2, groups="auto", unlabeled=tiny_task["train"], device="cpu")
    assert found["params"] == count_params(load_model(folder)) < found["params_before"] == count_params(load_model(plain))
    assert sorted(number for group in found["groups"] for number in group) == list(range(tiny.LAYERS))
    assert found["metrics"]["validation"].keys() >= {"n", "accuracy", "before"}
    assert (folder / "model.safetensors").stat().st_size < 0.8 * (plain / "model.safetensors").stat().st_size
    compress.distill(plain, folder, tiny_task, tmp_path / "student", **FAST)
    compress.finetune(folder, tiny_task, tmp_path / "tuned", **FAST)
    for name in ("student", "tuned"):
        assert list(owners_of(load_model(tmp_path / name))) == found["shared"]
    graphs = [compress.export(source, tmp_path / f"graph-{source.name}", tiny_task) for source in (plain, tmp_path / "student")]
    assert graphs[1]["size_mb"] < 0.85 * graphs[0]["size_mb"]
    graph = tmp_path / "graph-student"
    for method in ("dynamic", "static"):
        compress.quantize(graph, tiny_task, tmp_path / method, method=method)
    results = compress.evaluate([tmp_path / "student", graph, tmp_path / "dynamic", tmp_path / "static"], tiny_task)["results"]
    assert results[0]["metrics"] == results[1]["metrics"]
    refused = {
        "prune": lambda: compress.prune(folder, tiny_task, tmp_path / "no", target_flops=0.5, device="cpu"),
        "factorize": lambda: compress.factorize(folder, tiny_task, tmp_path / "no", rank=3),
        "share": lambda: compress.share(folder, tiny_task, tmp_path / "no", layers=1),
        "finetune --mode lora": lambda: compress.finetune(folder, tiny_task, tmp_path / "no", mode="lora", **FAST),
    }
    for verb, call in refused.items():
        with pytest.raises(UsageError, match=f"{verb} does not support models whose layers share weights") as caught:
            call()
        assert ("not both" in (caught.value.hint or "")) == (verb == "factorize")  # which takes no shared model, nor share a factorized one
    assert not (tmp_path / "no").exists()


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
