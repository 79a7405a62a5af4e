"""Methods vocab and sparse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.presets import resolve
from compress.data.task import Task
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.model_shape import model_shape
from compress.prune.smaller_file import write_smaller_file
from compress.settings import PruneSettings
from tests import tiny
from tests.unit.prune.fakes import Maker, context_of


def shrink(source: Path, task: dict[str, Any], output: Path, **settings: Any) -> dict[str, Any]:
    """Run the method."""
    output.mkdir()
    return write_smaller_file(context_of(source, task, **settings), output)


def few_words(folder: Path) -> dict[str, Any]:
    """Write a task whose texts use few of the tokens."""
    words = [tiny.TOPICS[label][:2] for label in tiny.LABELS]
    rows = [{"text": " ".join(pair), "label": label} for pair, label in zip(words, tiny.LABELS, strict=True)] * 2
    document: dict[str, Any] = {"name": "few-words", "text": ["text"], "labels": tiny.LABELS, "max_length": 32}
    for split in ("train", "validation"):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        document[split] = str(path)
    return document


def logits(source: Path, task: dict[str, Any]) -> list[np.ndarray]:
    """Return a model's logits for the first validation texts, as its own tokenizer cuts them."""
    data = Evaluator(Task(resolve(task)), "validation", source, np.arange(len(tiny.LABELS)), 6).data
    forward = torch_forward(load_model(source))
    return [forward(data.batch([number])) for number in range(6)]


def test_unused_tokens_are_removed_and_the_logits_stay(checkpoint: Maker, family: str, tmp_path: Path) -> None:
    task = few_words(tmp_path)
    result = shrink(checkpoint(family), task, tmp_path / "out", method="vocab")
    model = load_model(tmp_path / "out")
    assert result["vocab_after"] < result["vocab_before"] == len(tiny.vocabulary(family))
    assert model.get_input_embeddings().num_embeddings == result["vocab_after"]
    assert result["params"] < result["params_before"]
    assert result["layers"] == model_shape(tiny.make_model(family)).as_json()
    for before, after in zip(logits(checkpoint(family), task), logits(tmp_path / "out", task), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_tokens_of_unlabeled_texts_are_kept(checkpoint: Maker, tmp_path: Path) -> None:
    task = few_words(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(text for text, _ in tiny.sentences(60)), encoding="utf-8")
    alone = shrink(checkpoint(), task, tmp_path / "a", method="vocab")
    more = shrink(checkpoint(), task, tmp_path / "b", method="vocab", unlabeled=str(tmp_path / "texts.txt"))
    assert alone["vocab_after"] < more["vocab_after"]


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_sparse_weights_keep_the_shape(tiny_task: dict[str, Any], checkpoint: Maker, family: str, pattern: str, tmp_path: Path) -> None:
    result = shrink(checkpoint(family), tiny_task, tmp_path / "out", method="sparse", pattern=pattern)
    assert model_shape(load_model(tmp_path / "out")) == model_shape(tiny.make_model(family))
    assert set(result["zeros"].values()) == {0.5}
    assert result["zipped_bytes_after"] < 0.8 * result["zipped_bytes_before"]
    assert result["params"] == result["params_before"]
    assert (result["predicted_speedup"], result["measured_speedup"]) == (1.0, None)


@pytest.mark.parametrize("method", ["vocab", "sparse"])
def test_a_target_is_refused(method: Any) -> None:
    with pytest.raises(ValueError, match="target_flops goes with method .*, not "):
        PruneSettings(method=method, target_flops=0.5)
