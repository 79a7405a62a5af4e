"""The stage `export`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core.errors import ModelError, ResourceError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export.artifact import verification_data
from compress.export.graph import build_graph
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import save_model
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.data.retrieval_files import DOCUMENTS, write_beir

Maker = Callable[..., Path]
module = importlib.import_module("compress.export")  # `compress.export` is the verb


def export(source: Path, output: Path, document: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    task = Task(resolve(document)) if document else None
    return module.run(Inputs({"model": source}, 0, task), ExportSettings(**settings), output)


@pytest.mark.parametrize("with_task", [False, True])
def test_an_artifact_is_written_and_verified(
    checkpoint: Maker, tiny_task: dict[str, Any], family: str, with_task: bool, tmp_path: Path
) -> None:
    result = export(checkpoint(family), tmp_path / "out", tiny_task if with_task else None)
    verification = result["verification"]
    assert verification["max_abs"] < 1e-4
    assert verification["agreement"] == 1
    assert verification["texts"] == ("tiny, validation" if with_task else "built-in samples")
    assert result["input_spec"]["max_length"] == (32 if with_task else tiny.POSITIONS)
    assert result["layers"] == [{"heads": tiny.HEADS, "ffn": tiny.FFN}] * tiny.LAYERS
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.onnx",
        "canaries.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    onnx.checker.check_model(str(tmp_path / "out" / "model.onnx"), full_check=True)
    json.dumps(result)


def test_the_artifact_answers_as_the_checkpoint(checkpoint: Maker, family: str, tmp_path: Path) -> None:
    export(checkpoint(family), tmp_path / "out")
    data = tiny.encoded(family, 40, pairs=True)
    expected = run_batches(torch_forward(tiny.make_model(family)), data)
    np.testing.assert_allclose(run_batches(OnnxModel(tmp_path / "out").logits, data), expected, atol=1e-4)


def test_a_pruned_checkpoint_is_exported_with_its_shape(tmp_path: Path) -> None:
    model = tiny.make_model()
    slice_model(model, [Kept([0, 3], [1]), Kept([], []), Kept([], [5])])
    (tmp_path / "slim").mkdir()
    tiny.write_tokenizer(tmp_path / "slim")
    save_model(model, tmp_path / "slim", tmp_path / "slim")
    result = export(tmp_path / "slim", tmp_path / "out")
    assert result["layers"] == [{"heads": 2, "ffn": 1}, {"heads": 0, "ffn": 0}, {"heads": 0, "ffn": 1}]


def test_a_graph_that_differs_is_refused_and_the_case_named(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Any, form: Any) -> onnx.ModelProto:
        model.classifier.bias.data += 0.5
        graph = build_graph(model, form)
        model.classifier.bias.data -= 0.5
        return graph

    monkeypatch.setattr(module, "build_graph", wrong)
    with pytest.raises(ModelError, match=r"differs from PyTorch by 5\.00e-01 on 'batch") as caught:
        export(checkpoint(), tmp_path / "out")
    assert "--tolerance" in (caught.value.hint or "")
    export(checkpoint(), tmp_path / "allowed", tolerance=0.6)


def test_a_graph_that_gives_nan_is_refused_at_any_tolerance(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Any, form: Any) -> onnx.ModelProto:
        kept = model.classifier.bias.data.clone()
        model.classifier.bias.data += float("nan")
        graph = build_graph(model, form)
        model.classifier.bias.data = kept
        return graph

    monkeypatch.setattr(module, "build_graph", wrong)
    with pytest.raises(ModelError, match="differs from PyTorch by inf"):
        export(checkpoint(), tmp_path / "out", tolerance=1e30)


def test_exporting_an_artifact_again_is_refused(checkpoint: Maker, tmp_path: Path) -> None:
    export(checkpoint(), tmp_path / "out")
    with pytest.raises(ModelError, match="is an ONNX artifact"):
        export(tmp_path / "out", tmp_path / "again")


def test_a_full_disk_is_told_before_writing(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ResourceError, match="free"):
        export(checkpoint(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_verification_takes_validation_or_what_there_is(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    inputs = Inputs({"model": checkpoint()}, 0, Task(resolve(tiny_task)))
    data, name = verification_data(inputs, checkpoint())
    assert (len(data), name) == (24, "tiny, validation")
    only_test = {key: value for key, value in tiny_task.items() if key not in {"train", "validation"}}
    data, name = verification_data(Inputs({"model": checkpoint()}, 0, Task(resolve(only_test))), checkpoint())
    assert (len(data), name) == (24, "tiny, test")


def test_an_embedder_with_judgements_is_verified_on_documents(tmp_path: Path) -> None:
    folder, source = write_beir(tmp_path / "beir"), tiny.write_embedder(tmp_path / "model")
    task = Task(resolve({"kind": "sentence-embedding", "beir": str(folder), "shares": [0, 0.5, 0.5]}))
    data, name = verification_data(Inputs({"model": source}, 0, task), source)
    assert "validation" in task.available
    assert (len(data), name) == (len(DOCUMENTS), "beir, train")


def test_samples_have_many_lengths() -> None:
    from compress.data.sample_texts import sample_examples

    lengths = {len(text.split()) for (text,) in sample_examples().texts}
    assert len(lengths) >= 15
    assert min(lengths) == 1
    assert max(lengths) > 300
