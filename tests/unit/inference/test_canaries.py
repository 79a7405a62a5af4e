"""Canaries: every kind of artifact carries them, and what computes wrongly is refused when it is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.benchmark.open_runner import open_runner
from compress.core import artifacts, files, machine
from compress.core.errors import CompressError, ModelError
from compress.inference import artifact as module
from compress.inference.artifact import OnnxModel, load_onnx
from compress.inference.canaries import read_canaries
from compress.inference.forward import open_forward
from compress.inference.openvino_session import has_openvino
from compress.inference.predictor import open_predictor
from compress.models.layout import CANARIES, GRAPH
from tests import tiny
from tests.unit.export.test_recurrent import export
from tests.unit.quantize.stage import run as quantize

Maker = Callable[..., Path]
KINDS: dict[str, Callable[[Path], Path]] = {
    **{target: (lambda path, target=target: tiny.write_checkpoint(path, target=target)) for target in ("class", "labels", "value", "span")},
    "tags": lambda path: tiny.write_checkpoint(path, "roberta", target="tags"),
    "vector": tiny.write_embedder,
    "vector of cls and mean": lambda path: tiny.write_embedder(path, "mpnet", pooling=("cls", "mean"), dense=8),
    "bilstm": tiny.write_bilstm,
    "static": tiny.write_static,
    "static of pairs": lambda path: tiny.write_static(path, texts=2),
}


@pytest.fixture(scope="module")
def quantized(checkpoint: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 artifact of the tiny BERT, without its manifest (shared: read it only)."""
    folder = tmp_path_factory.mktemp("quantized") / "int8"
    quantize(checkpoint(), folder)
    return folder


@pytest.fixture
def int8(quantized: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, of this test's own."""
    return Path(shutil.copytree(quantized, tmp_path / "int8"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("int8", [False, True])
def test_every_kind_of_artifact_carries_canaries_and_is_checked(kind: str, int8: bool, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "model")
    (quantize if int8 else export)(source, tmp_path / "out")
    OnnxModel(tmp_path / "out").session  # noqa: B018 (opened by looking at it)
    document = json.loads((tmp_path / "out" / CANARIES).read_text(encoding="utf-8"))
    *alone, padded = document["batches"]
    assert [len(texts) for texts in alone] == ([1] if int8 else [])
    assert len({len(text["input_ids"]) for text in padded}) == 2
    poison(tmp_path / "out", np.nan)
    with pytest.raises(ModelError, match="computes wrong outputs in onnxruntime"):
        OnnxModel(tmp_path / "out").session  # noqa: B018


def poison(folder: Path, value: float) -> None:
    """Replace the largest float vector of weights or scales that every text uses."""
    graph = onnx.load(str(folder / GRAPH))
    floats = [tensor for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims]
    used = [tensor for tensor in floats if "embeddings" not in tensor.name and "tokens" not in tensor.name] or floats
    tensor = max(used, key=lambda tensor: int(np.prod(tensor.dims)))
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), value), tensor.name))
    onnx.save(graph, str(folder / GRAPH))


@pytest.mark.parametrize("value", [0.0, -3.0, 1e20])
def test_a_poisoned_weight_is_noticed(int8: Path, value: float) -> None:
    poison(int8, value)
    with pytest.raises(
        ModelError, match=r"int8 computes wrong outputs in onnxruntime on this processor \(.*at most .* is rounding"
    ) as caught:
        load_onnx(int8)("the red dog")
    assert caught.value.exit_code == 4
    assert "--no-check" in (caught.value.hint or "")


def test_an_artifact_is_served_unchecked_on_request(int8: Path) -> None:
    poison(int8, 1e3)
    assert load_onnx(int8, check=False).probabilities(["the red dog"]).shape == (1, len(tiny.LABELS))


@pytest.mark.parametrize(
    "opener",
    [
        lambda folder, **options: open_predictor(folder, **options)(["the red dog"]),
        lambda folder, **options: open_forward(folder, **options)(tiny.encoded().batch([0])).size,
        lambda folder, **options: open_runner(folder, "onnxruntime", "fp32", "cpu", 1, **options),
    ],
)
def test_every_way_to_open_checks(opener: Callable[..., object], int8: Path) -> None:
    poison(int8, 1e3)
    with pytest.raises(ModelError, match="wrong outputs"):
        opener(int8)
    assert opener(int8, check=False)


@pytest.mark.parametrize("swap", [lambda rows: rows[::-1], lambda rows: rows[:, ::-1], np.zeros_like, lambda rows: rows[:, :1]])
def test_a_swapped_kernel_result_is_noticed(int8: Path, swap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = module.session_forward
    monkeypatch.setattr(module, "session_forward", lambda session: lambda batch: swap(opened(session)(batch)))
    with pytest.raises(ModelError, match="wrong outputs"):
        load_onnx(int8)("the red dog")


def test_rounding_of_another_kernel_is_allowed(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, limit = module.session_forward, json.loads((int8 / CANARIES).read_text(encoding="utf-8"))["tolerance"]
    monkeypatch.setattr(module, "session_forward", lambda session: lambda batch: opened(session)(batch) + np.float32(0.9 * limit))
    assert load_onnx(int8).probabilities(["the red dog"]).shape == (1, len(tiny.LABELS))


def test_an_artifact_is_checked_once(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    checked = module.check_outputs
    monkeypatch.setattr(module, "check_outputs", lambda *arguments: (seen.append(arguments), checked(*arguments)))
    model = load_onnx(int8)
    for _ in range(3):
        model(["the red dog", "tea"])
    assert len(seen) == 1


@pytest.mark.skipif(not has_openvino(), reason="needs OpenVINO")
def test_openvino_is_checked_with_its_own_outputs_or_those_of_onnxruntime(checkpoint: Maker, tmp_path: Path) -> None:
    result = export(checkpoint(), tmp_path / "out", runtime="openvino")
    files.write_json(tmp_path / "out" / artifacts.MANIFEST, result)
    assert load_onnx(tmp_path / "out")("the red dog")
    path = tmp_path / "out" / CANARIES
    document = json.loads(path.read_text(encoding="utf-8"))
    texts = [text for batch in document["batches"] for text in batch]
    assert all(set(text["outputs"]) == {"onnxruntime", "openvino"} for text in texts)
    for text in texts:
        del text["outputs"]["openvino"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert load_onnx(tmp_path / "out")("the red dog")
    texts[0]["outputs"]["openvino"] = [value + 1 for value in texts[0]["outputs"]["onnxruntime"]]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError, match="wrong outputs in openvino"):
        load_onnx(tmp_path / "out")("the red dog")


def test_an_artifact_of_an_earlier_version_opens(int8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (int8 / CANARIES).unlink()
    poison(int8, 1e3)
    assert load_onnx(int8).probabilities(["the red dog"]).shape == (1, len(tiny.LABELS))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"tolerance": "large"},
        {"tolerance": -1},
        {"tolerance_half": float("nan")},
        {"batches": []},
        {"batches": [[]]},
        {"batches": [[{"input_ids": [0, 10**6], "token_type_ids": [0, 0], "outputs": {"onnxruntime": [1, 2, 3]}}]]},
        {"batches": [[{"input_ids": [0, 1.5], "token_type_ids": [0, 0], "outputs": {"onnxruntime": [1, 2, 3]}}]]},
        {"batches": [[{"input_ids": [0, 1], "token_type_ids": [0, 9], "outputs": {"onnxruntime": [1, 2, 3]}}]]},
        {"batches": [[{"input_ids": [0] * 600, "token_type_ids": [0] * 600, "outputs": {"onnxruntime": [1, 2, 3]}}]]},
        {"batches": [[{"input_ids": [0, 1], "token_type_ids": [0, 0], "outputs": {}}]]},
        {"batches": [[{"input_ids": [0, 1], "token_type_ids": [0, 0], "outputs": {"onnxruntime": [[1], [2, 3]]}}]]},
        {"batches": {"a": 1}},
    ],
)
def test_a_malformed_file_is_named(int8: Path, change: dict[str, Any]) -> None:
    path = int8 / CANARIES
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(CompressError, match=r"canaries\.json is malformed") as caught:
        load_onnx(int8)("the red dog")
    assert caught.value.exit_code == 4
    assert load_onnx(int8, check=False)("the red dog")


def test_a_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_canaries(tmp_path, 10, 10, 0) is None


def test_a_wrong_instruction_set_is_said_with_the_error(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without VNNI whose products saturate."""
    files.write_json(int8 / artifacts.MANIFEST, {"weights": "int8 per channel", "instruction_sets": ["avx2", "avx512f", "avx512_vnni"]})
    monkeypatch.setattr(machine, "cpu_flags", lambda: ["avx2"])
    opened = module.session_forward
    monkeypatch.setattr(module, "session_forward", lambda session: lambda batch: opened(session)(batch) * 0.5)
    with pytest.raises(ModelError, match="which lacks AVX-512 and AVX512-VNNI"):
        load_onnx(int8)("the red dog")
