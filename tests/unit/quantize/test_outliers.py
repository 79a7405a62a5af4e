"""A channel that is far larger than all others, as real encoders have it: int8 must keep the accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import compress
from compress.inference.forward import torch_forward
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import save_model
from compress.models.layers import encoder_layers
from tests import tiny
from tests.unit.quantize.stage import run

CHANNEL, SCALE, LIFT = 5, 80.0, 4.0


def plant(model: Any) -> None:
    """Scale a channel of every norm, or a neuron where norms follow, and divide what reads it: the outputs stay, the ranges explode."""
    with torch.no_grad():
        for layer in encoder_layers(model):
            if not layer.norms_first:
                layer.ffn_in.weight[CHANNEL] *= SCALE
                layer.ffn_out.weight[:, CHANNEL] /= SCALE
                continue
            for norm, readers in (
                (layer.attention_norm, (layer.query, layer.key, layer.value)),
                (layer.output_norm, (layer.ffn_in, layer.ffn_gate)),
            ):
                if norm in layer.norms:
                    norm.weight[CHANNEL] *= SCALE
                    for linear in (reader for reader in readers if reader is not None):
                        linear.weight[:, CHANNEL] /= SCALE


def plant_after_sums(model: Any) -> None:
    """Scale a channel of every norm, and divide what reads it; the residual keeps it, as in real models whose norms follow the sums."""
    layers = list(encoder_layers(model))
    with torch.no_grad():
        for layer in {id(layer.ffn_in.weight): layer for layer in layers}.values():
            for norm, readers in (
                (layer.attention_norm, [layer.ffn_in]),
                (layer.output_norm, [layer.query, layer.key, layer.value, model.albert.pooler]),
            ):
                norm.weight[CHANNEL] *= SCALE
                norm.bias[CHANNEL] *= SCALE
                for linear in readers:
                    linear.weight[:, CHANNEL] /= SCALE
                others = [number for number in range(tiny.HIDDEN) if number != CHANNEL]
                norm.weight[others] *= LIFT  # which the channel in the sum makes smaller
        mean = torch_forward(model)(tiny.encoded("albert", 60).batch(range(60))).mean(0)
        model.classifier.bias -= torch.from_numpy(mean)  # so that there are several classes


@pytest.fixture(scope="module", params=["modernbert", "nomic_bert", "eurobert", "albert"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model with outliers, and a task whose labels are what it predicts; of an ALBERT with them, of others without."""
    folder = tmp_path_factory.mktemp("planted")
    tiny.write_checkpoint(folder / "plain", request.param)
    texts = [text for text, _ in tiny.sentences(160, seed=3)]
    model = compress.load_model(folder / "plain")
    (plant_after_sums if request.param == "albert" else plant)(model)
    (folder / "model").mkdir()
    save_model(model, folder / "model", folder / "plain")
    predictions: Any = open_predictor(folder / ("model" if request.param == "albert" else "plain"))(texts)
    labels = [prediction.label for prediction in predictions]
    for split, part in {"train": slice(0, 60), "validation": slice(60, 160)}.items():
        pd.DataFrame({"text": texts[part], "label": labels[part]}).to_parquet(folder / f"{split}.parquet")
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    return folder / "model", {"name": "planted", "text": ["text"], "labels": tiny.LABELS, "max_length": 32, **files}


def accuracy(folder: Path, task: dict[str, Any]) -> float:
    return compress.evaluate([folder], task | {"metrics": ["accuracy"]})["results"][0]["metrics"]["accuracy"]


def test_the_planted_model_predicts_as_before(planted: tuple[Path, dict[str, Any]]) -> None:
    assert accuracy(*planted) == 1.0


def test_int8_with_outliers_keeps_the_accuracy(planted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    model, task = planted
    careless = run(model, tmp_path / "static", task, method="static", calib_method="minmax", calib_samples=60, max_drop=100)
    careful = run(model, tmp_path / "auto", task, method="auto", calib_samples=60, max_drop=1.0)
    assert careless["metrics"]["validation"]["accuracy"] <= 0.97
    assert careful["metrics"]["validation"]["accuracy"] >= 0.99
    named = {group["group"] for group in careful["float_groups"]}
    assert careful["method"] == "smooth" or named & {
        f"layer.{number} {part}" for number in range(3) for part in ("qkv", "ffn in", "ffn out")
    }
