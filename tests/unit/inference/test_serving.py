"""Artifacts as a server uses them: many threads, ragged texts, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core import artifacts, files
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.inference import artifact as module
from compress.inference.artifact import OnnxModel, load_onnx
from compress.models.checkpoint import load_model
from tests import tiny

THREADS = 8


def make_artifact(folder: Path, target: Any = "class", family: str = "bert", **input_spec: Any) -> Path:
    """Write an fp32 artifact of a tiny model, cutting at 24 tokens."""
    labels = ["animal", "colour", "food", "other"] if target == "tags" else None
    source = tiny.write_checkpoint(folder / "model", family, target=target, labels=labels)
    (folder / "artifact").mkdir()
    write_artifact(build_graph(load_model(source)), source, folder / "artifact")
    document = {
        "precision": "fp32",
        "runtime": RUNTIME_HINTS,
        "input_spec": {"target": target, "max_length": 24, "stride": 4, **input_spec},
    }
    files.write_json(folder / "artifact" / artifacts.MANIFEST, document)
    return folder / "artifact"


def ragged(count: int, target: str) -> list[Any]:
    """Return texts of one to a hundred words, many beyond the limit; questions with contexts for spans."""
    words = " ".join(text for text, _ in tiny.sentences(40, seed=3)).split()
    rng = np.random.default_rng(4)
    texts = [" ".join(rng.choice(words, int(rng.integers(1, 100)))) for _ in range(count)]
    return [(f"where is {text.split()[0]} ?", text) for text in texts] if target == "span" else texts


def rounded(answers: Any) -> Any:
    """Return predictions with their scores to four digits: a text's last bits depend on the other texts of its batch."""
    return json.loads(json.dumps(answers, default=vars), parse_float=lambda number: round(float(number), 4))


@pytest.mark.parametrize(("target", "family"), [("class", "bert"), ("value", "distilbert"), ("tags", "roberta"), ("span", "bert")])
def test_threads_predict_the_same_as_one_thread(target: str, family: str, tmp_path: Path) -> None:
    """Batches of any size, from eight threads at once, against one text after another."""
    folder = make_artifact(tmp_path, target, family)
    texts = ragged(48, target)
    alone = OnnxModel(folder, threads=1)
    expected = rounded([alone(text) for text in texts])
    shared = OnnxModel(folder, threads=1)

    def call(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        for _ in range(4):
            chosen = rng.choice(len(texts), int(rng.integers(1, 16)))
            result = rounded(shared([texts[i] for i in chosen], batch_size=int(rng.integers(1, 9))))
            if not all(close(row, expected[i]) for row, i in zip(result, chosen, strict=True)):
                return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(call, range(THREADS)))


def close(result: Any, expected: Any) -> bool:
    """Tell whether two JSON documents are equal, numbers within a thousandth."""
    if isinstance(expected, dict):
        return result.keys() == expected.keys() and all(close(result[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(result) == len(expected) and all(map(close, result, expected))
    return abs(result - expected) < 1e-3 if isinstance(expected, float) else result == expected


def test_session_and_tokenizer_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    for name in ("open_session", "load_tokenizer"):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, original=original: opened.append(name) or original(*args))
    model = load_onnx(make_artifact(tmp_path), threads=1)
    assert opened == []
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(model, ragged(16, "class")))
    assert sorted(opened) == ["load_tokenizer", "open_session"]


@pytest.mark.parametrize(("target", "family"), [("class", "bert"), ("tags", "roberta"), ("span", "bert")])
def test_a_call_leaves_the_tokenizer_as_it_was(target: str, family: str, tmp_path: Path) -> None:
    model = load_onnx(make_artifact(tmp_path, target, family))
    before = model.tokenizer.to_str()
    model(ragged(5, target))
    assert model.tokenizer.to_str() == before


def test_micro_batches_are_bounded_by_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 64)
    model = load_onnx(make_artifact(tmp_path))
    shapes: list[tuple[int, ...]] = []
    inner = model.logits

    def watched(batch: dict[str, np.ndarray]) -> np.ndarray:
        shapes.append(batch["input_ids"].shape)
        assert batch["attention_mask"].sum(axis=1).max() == batch["input_ids"].shape[1]  # padded to its longest, not more
        return inner(batch)

    model.__dict__["logits"] = watched
    texts = ragged(40, "class")
    result = model.probabilities(texts, batch_size=8)
    assert all(rows <= 8 and rows * width <= 64 for rows, width in shapes)
    assert sum(rows for rows, _ in shapes) == len(texts)
    np.testing.assert_allclose(result, np.concatenate([model.probabilities([text]) for text in texts]), atol=1e-5)


IMPORTS = """
import sys
import compress
model = compress.load_onnx(sys.argv[1])
assert "onnxruntime" not in sys.modules and "tokenizers" not in sys.modules, "opened before it is needed"
print(model(["the red dog", "tea"])[0])
heavy = {"torch", "transformers", "onnx", "pandas", "sklearn", "scipy", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("target", ["class", "tags"])
def test_serving_imports_neither_torch_nor_transformers(target: str, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path, target)
    done = subprocess.run([sys.executable, "-c", IMPORTS, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Prediction(" if target == "class" else "[TaggedWord(")


def test_artifacts_of_earlier_versions_keep_their_length_limit(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path, "labels")
    document = artifacts.read_manifest(folder) or {}
    files.write_json(folder / artifacts.MANIFEST, {"reading": document.pop("input_spec"), **document})
    model = OnnxModel(folder)
    assert (model.input_spec.target, model.input_spec.max_length) == ("labels", 24)
