"""ONNX artifacts as an application opens them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core import artifacts, files
from compress.core.errors import ModelError, ResourceError, UsageError
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.inference import artifact as module
from compress.inference.artifact import OnnxModel, load_onnx
from compress.inference.decoding import Prediction, softmax
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session
from compress.inference.openvino_session import has_openvino
from compress.models.checkpoint import load_model
from tests import tiny

Maker = Callable[..., Path]
TEXTS = [
    "the red dog",
    "a very old and big horse in my new green soup",
    "tea",
    "we eat bread and cheese and rice and cake with the old lion",
]


@pytest.fixture
def artifact(checkpoint: Maker, tmp_path: Path) -> Path:
    """An fp32 artifact of the tiny BERT, with its manifest."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_artifact(build_graph(tiny.make_model()), checkpoint(), folder)
    files.write_json(folder / artifacts.MANIFEST, {"precision": "fp32", "runtime": RUNTIME_HINTS, "max_length": 16})
    return folder


def expected(folder: Path, texts: list[Any], limit: int) -> np.ndarray:
    """Compute the probabilities by PyTorch, one text at a time."""
    from compress.data.encoding import encode
    from compress.models.tokenizer import load_tokenizer

    model = load_model(folder)
    rows = [text if isinstance(text, tuple) else (text,) for text in texts]
    data = encode(load_tokenizer(folder), rows, np.zeros(len(rows), dtype=int), limit, 0)
    return softmax(np.concatenate([torch_forward(model)(data.batch([number])) for number in range(len(rows))]))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_probabilities_come_in_the_order_of_the_texts(artifact: Path, checkpoint: Maker, batch_size: int) -> None:
    texts: list[Any] = [*TEXTS, ("the red dog", "a cat"), "x" * 400]
    probabilities = load_onnx(artifact).probabilities(texts, batch_size)
    np.testing.assert_allclose(probabilities, expected(checkpoint(), texts, 16), atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_calling_gives_one_prediction_or_a_list(artifact: Path) -> None:
    model = load_onnx(artifact)
    rows = model.probabilities(TEXTS)
    one, many = model(TEXTS[0]), model(TEXTS)
    assert isinstance(one, Prediction)
    assert isinstance(many, list)
    assert [entry.label for entry in many] == [tiny.LABELS[number] for number in rows.argmax(axis=1)]
    assert one.label == many[0].label
    assert one.score == pytest.approx(rows[0].max(), abs=1e-5)
    assert model([]) == []
    assert isinstance(model(("the dog", "a cat")), Prediction)


def test_inputs_are_truncated_to_the_recorded_length(artifact: Path) -> None:
    short, long = "the dog " * 7, "the dog " * 60
    model = load_onnx(artifact)
    np.testing.assert_allclose(model.probabilities([short]), model.probabilities([long]), atol=1e-5)
    files.write_json(artifact / artifacts.MANIFEST, {"max_length": None})
    assert load_onnx(artifact).probabilities([long]).shape == (1, 3)


@pytest.mark.parametrize("text", ["", "\0", "😀" * 50, "word " * 20_000, "\u202e\ufeff"])
def test_odd_texts_are_classified(artifact: Path, text: str) -> None:
    assert np.isfinite(load_onnx(artifact).probabilities([text])).all()


def test_many_threads_share_one_session(artifact: Path) -> None:
    model = OnnxModel(artifact, threads=1)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: model.probabilities(TEXTS), range(12)))
    assert all(np.array_equal(row, rows[0]) for row in rows)


def test_recorded_hints_reach_the_session(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "open_session", lambda *args: seen.append(args))
    assert OnnxModel(artifact, threads=3).session is None
    assert OnnxModel(artifact, hints={}).session is None
    assert seen == [(artifact / "model.onnx", 3, "cpu", RUNTIME_HINTS), (artifact / "model.onnx", None, "cpu", {})]


def test_a_model_that_does_not_name_its_classes(tmp_path: Path) -> None:
    """Configs with transformers' own two labels do not write them down."""
    source = tiny.write_checkpoint(tmp_path / "model", labels=["LABEL_0", "LABEL_1"])
    output = tmp_path / "artifact"
    output.mkdir()
    write_artifact(build_graph(load_model(source)), source, output)
    assert load_onnx(output).labels == ["LABEL_0", "LABEL_1"]


def test_a_checkpoint_is_no_artifact(checkpoint: Maker) -> None:
    with pytest.raises(ModelError, match=r"no model\.onnx") as caught:
        load_onnx(checkpoint())
    assert "compress export" in (caught.value.hint or "")


def test_a_damaged_graph(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"model\.onnx cannot be opened"):
        load_onnx(artifact)(TEXTS)


def test_cuda_without_its_provider(artifact: Path) -> None:
    with pytest.raises(ResourceError, match="--device cuda") as caught:
        OnnxModel(artifact, device="cuda").session  # noqa: B018 (opened by looking at it)
    assert caught.value.exit_code == 5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_silent_fall_back_is_an_error(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ResourceError):
        open_session(artifact / "model.onnx", None, "cuda", {})


def test_odd_hints_are_a_model_error(artifact: Path) -> None:
    with pytest.raises(ModelError):
        open_session(artifact / "model.onnx", None, "cpu", {"disabled_optimizers": 5})


def with_external_weights(artifact: Path, secret: Path, how: str) -> None:
    """Move the graph's weights into a file that lies outside of the artifact, reached by `how`."""
    graph = onnx.load(str(artifact / "model.onnx"))
    onnx.save(graph, str(secret.parent / "model.onnx"), save_as_external_data=True, location=secret.name, size_threshold=1024)
    moved = onnx.load(str(secret.parent / "model.onnx"), load_external_data=False)
    places = {"..": f"../{secret.parent.name}/{secret.name}", "absolute": str(secret), "hard link below": f"sub/{secret.name}"}
    location = places.get(how, secret.name)
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (artifact / "model.onnx").write_bytes(moved.SerializeToString())
    if how == "symlink":
        (artifact / location).symlink_to(secret)
    elif how.startswith("hard link"):
        (artifact / location).parent.mkdir(exist_ok=True)
        os.link(secret, artifact / location)
    elif how == "moved":
        secret.rename(artifact / location)


def test_weights_inside_the_folder_are_read(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    before = load_onnx(artifact).probabilities(TEXTS)
    with_external_weights(artifact, tmp_path / "elsewhere" / "weights.data", "moved")
    np.testing.assert_array_equal(load_onnx(artifact).probabilities(TEXTS), before)


@pytest.mark.parametrize("how", ["..", "absolute", "symlink", "hard link", "hard link below"])
def test_weights_outside_the_folder_are_refused(artifact: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    with_external_weights(artifact, tmp_path / "elsewhere" / "secret.data", how)
    with pytest.raises(ModelError, match="External data"):
        load_onnx(artifact)(TEXTS)


def test_softmax_is_stable_and_shift_invariant() -> None:
    logits = np.array([[1000.0, 1001.0], [-1000.0, -1001.0]], dtype=np.float32)
    expected = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(softmax(logits), [[1 - expected, expected], [expected, 1 - expected]], rtol=1e-6)


@pytest.mark.parametrize("threads", [0, -1, 10**6, True, "2", 1.5])
def test_numbers_of_threads_and_texts_are_bounded(artifact: Path, threads: Any) -> None:
    with pytest.raises(UsageError, match="threads"):
        load_onnx(artifact, threads=threads)
    with pytest.raises(UsageError, match="batch_size"):
        load_onnx(artifact)(["a text"], batch_size=threads)


def test_micro_batches_grow_with_the_threads(artifact: Path) -> None:
    assert load_onnx(artifact, threads=1).batch_tokens == 768
    assert load_onnx(artifact, threads=3).batch_tokens == 3 * 768
    assert load_onnx(artifact, threads=64).batch_tokens == 4096
    assert load_onnx(artifact, threads=1, runtime="openvino").batch_tokens == 1024
    assert OnnxModel(artifact, device="cuda").batch_tokens == 4096


@pytest.mark.parametrize("runtime", ["onnxruntime", *(["openvino"] if has_openvino() else [])])
def test_streams_predict_the_same(artifact: Path, runtime: str) -> None:
    alone, streams = load_onnx(artifact, threads=1, runtime=runtime), load_onnx(artifact, threads=1, runtime=runtime, streams=2)
    np.testing.assert_allclose(streams.probabilities(TEXTS * 4, 2), alone.probabilities(TEXTS * 4, 2), atol=1e-6)


def test_streams_share_the_cores(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.machine, "cores", lambda: 8)
    assert load_onnx(artifact, streams=2)._threads == 4
    assert load_onnx(artifact, streams=2, threads=1)._threads == 1
    assert load_onnx(artifact)._threads is None
    with pytest.raises(UsageError, match="streams"):
        load_onnx(artifact, streams=0)
