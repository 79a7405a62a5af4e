"""The gate on a model that learnt something: outliers that change nothing in float, and ruin blind int8."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core.errors import GateMissed
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export.verify import verify
from compress.inference.artifact import OnnxModel
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.quantize.accuracy_gate import VECTOR_MAX_DROP, AccuracyGate
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.quantize.stage import run

export = importlib.import_module("compress.export").run
GROWN = 3000.0
STEPS = 60
LIMIT = 3.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The folders of a checkpoint that learnt the tiny task, and of the same function with outliers; and the task.

    A channel of what each head mixes is thousands of times larger, and the column of the next
    weights smaller by as much: what is between is linear, so that float answers stay as they are.
    """
    import torch

    folder = tmp_path_factory.mktemp("gate")
    document = tiny.write_task(folder / "task", train=300, validation=120, test=0)
    model = tiny.make_model("bert")
    data = tiny.encoded(count=300, seed=1)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(STEPS):
        some = rng.integers(0, len(data), 32)
        batch = {name: torch.from_numpy(array) for name, array in data.batch(some).items()}
        model(**batch, labels=torch.from_numpy(data.labels[some])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name in ("plain", "grown"):
        (folder / name).mkdir()
        tiny.save_pretrained(model.eval(), folder / name)
        tiny.write_tokenizer(folder / name)
        for layer in model.bert.encoder.layer:
            layer.attention.self.value.weight.data[:: tiny.HEAD_SIZE] *= GROWN
            layer.attention.self.value.bias.data[:: tiny.HEAD_SIZE] *= GROWN
            layer.attention.output.dense.weight.data[:, :: tiny.HEAD_SIZE] /= GROWN
    return folder / "plain", folder / "grown", document


def test_the_outliers_change_nothing_in_float(trained: tuple[Path, Path, dict[str, Any]]) -> None:
    plain, grown, _ = trained
    found = verify(torch_forward(load_model(plain)), torch_forward(load_model(grown)), tiny.encoded())
    assert found.max_abs < 1e-2
    assert found.agreement == 1


def test_blind_int8_is_ruined_and_the_gate_holds(trained: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    plain, grown, document = trained
    (tmp_path / "graph").mkdir()
    export(Inputs({"model": grown}), ExportSettings.model_validate({"tolerance": 0.05}), tmp_path / "graph")
    for method in ("dynamic", "static"):
        harmless = run(plain, tmp_path / f"plain-{method}", document, method=method)["metrics"]["validation"]
        assert harmless["float"] > 0.9
        assert harmless["drop_points"] <= LIMIT
        blind = run(tmp_path / "graph", tmp_path / method, document, method=method)["metrics"]["validation"]
        assert blind["drop_points"] > 40
    with pytest.raises(GateMissed):
        run(tmp_path / "graph", tmp_path / "refused", document, method="dynamic", max_drop=LIMIT)
    made = run(tmp_path / "graph", tmp_path / "auto", document, method="auto", max_drop=LIMIT)
    assert made["metrics"]["validation"]["drop_points"] <= LIMIT
    floats = {entry["group"] for entry in made["float_groups"]}
    assert floats
    assert len(floats) <= 3  # of 14
    assert floats <= {f"layer.{layer} attention out" for layer in range(tiny.LAYERS)}
    assert len(OnnxModel(tmp_path / "auto", hints={})(["the red dog", "tea"])) == 2


def test_an_embedder_is_judged_by_its_vectors_unless_a_drop_is_given(tmp_path: Path) -> None:
    model, folder = tiny.write_embedder(tmp_path / "model"), tmp_path / "graph"
    folder.mkdir()
    task = Task(resolve(tiny.write_texts(tmp_path / "data")))
    export(Inputs({"m": model}, 0, task), ExportSettings.model_validate({}), folder)
    reference = OnnxModel(folder)
    inputs = Inputs({"m": folder}, 0, task)
    gate, by_metric = AccuracyGate(inputs, folder, reference), AccuracyGate(inputs, folder, reference, 1.0)
    assert (gate.compares_vectors, gate.limit) == (True, VECTOR_MAX_DROP)
    assert (by_metric.compares_vectors, by_metric.limit) == (False, 1.0)
    assert gate.points_lost(reference.logits, "itself") == pytest.approx(0.0, abs=1e-4)
    assert gate.points_lost(lambda batch: -reference.logits(batch), "the opposite") == pytest.approx(200.0, abs=1e-3)
