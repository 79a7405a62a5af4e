"""A channel of the normalised stream that is far larger than all others, as real encoders have it: int8 must keep the accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import compress
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import save_model
from compress.models.layers import encoder_layers
from tests import tiny

CHANNEL, SCALE = 5, 80.0


def plant(model: Any) -> None:
    """Scale a channel of every norm in the layers, and divide what reads it: the outputs stay, the ranges explode."""
    with torch.no_grad():
        for layer in encoder_layers(model):
            for norm, readers in (
                (layer.attention_norm, (layer.query, layer.key, layer.value)),
                (layer.output_norm, (layer.ffn_in, layer.ffn_gate)),
            ):
                if norm in layer.norms:
                    norm.weight[CHANNEL] *= SCALE
                    for linear in (reader for reader in readers if reader is not None):
                        linear.weight[:, CHANNEL] /= SCALE


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A ModernBERT with outliers, and a task whose labels are what it predicts without them."""
    folder = tmp_path_factory.mktemp("planted")
    tiny.write_checkpoint(folder / "plain", "modernbert")
    texts = [text for text, _ in tiny.sentences(160, seed=3)]
    predictions: Any = open_predictor(folder / "plain")(texts)
    labels = [prediction.label for prediction in predictions]
    for split, part in {"train": slice(0, 60), "validation": slice(60, 160)}.items():
        pd.DataFrame({"text": texts[part], "label": labels[part]}).to_parquet(folder / f"{split}.parquet")
    model = compress.load_model(folder / "plain")
    plant(model)
    (folder / "model").mkdir()
    save_model(model, folder / "model", folder / "plain")
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    return folder / "model", {"name": "planted", "text": ["text"], "labels": tiny.LABELS, "max_length": 32, **files}


def accuracy(folder: Path, task: dict[str, Any]) -> float:
    return compress.evaluate([folder], task | {"metrics": ["accuracy"]})["results"][0]["metrics"]["accuracy"]


def test_the_planted_model_predicts_as_before(planted: tuple[Path, dict[str, Any]]) -> None:
    assert accuracy(*planted) == 1.0


def test_int8_with_outliers_keeps_the_accuracy(planted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    model, task = planted
    careless = compress.quantize(model, task, tmp_path / "static", method="static", calib_method="minmax", calib_samples=60, max_drop=100)
    careful = compress.quantize(model, task, tmp_path / "auto", method="auto", calib_samples=60, max_drop=1.0)
    assert accuracy(Path(careless["output"]), task) <= 0.97
    assert accuracy(Path(careful["output"]), task) >= 0.99
    named = {group["group"] for group in careful["float_groups"]}
    assert careful["method"] == "smooth" or named & {f"layer.{number} {part}" for number in range(3) for part in ("qkv", "ffn in")}
