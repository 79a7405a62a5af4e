"""The activation of a model with one logit: as sentence-transformers recorded it, else as transformers applies it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import compress
from compress.data.input_spec import InputSpec
from compress.inference.artifact import load_onnx
from compress.inference.decoding import sigmoid, values
from compress.inference.predictor import open_predictor
from compress.models.activation import activated, activation_of, value_activation
from compress.models.checkpoint import load_model, save_model
from compress.models.task_loss import task_loss
from tests import tiny
from tests.unit.models.folders import refused

MODULES = "torch.nn.modules"
VALUE = {"architectures": ["BertForSequenceClassification"], "num_labels": 1}
SIGMOID = {"sentence_transformers": {"activation_fn": f"{MODULES}.activation.Sigmoid", "version": "5.0.0"}}
IDENTITY = {"sbert_ce_default_activation_function": f"{MODULES}.linear.Identity"}
TEXTS: Any = [("the red dog", "an old horse"), ("soup", "tea")]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VALUE | {"problem_type": "regression"}, "none"),
        (VALUE, "sigmoid"),
        (VALUE | SIGMOID, "sigmoid"),
        (VALUE | SIGMOID | {"problem_type": "regression"}, "sigmoid"),
        (VALUE | IDENTITY, "none"),
        (VALUE | {"num_labels": 3}, "none"),
        ({"architectures": ["BertModel"], "num_labels": 1}, "none"),
    ],
)
def test_activation(config: dict[str, Any], expected: str) -> None:
    assert value_activation(config) == expected


def cross_encoder(folder: Path, **record: Any) -> Path:
    return tiny.edit_config(tiny.write_checkpoint(folder, target="value"), problem_type=None, **record)


def logits_of(folder: Path) -> np.ndarray:
    import transformers

    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder)).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(folder))
    with torch.no_grad():
        return np.array([model(**tokenizer(*pair, return_tensors="pt")).logits.item() for pair in TEXTS])


@pytest.mark.parametrize("record", [{}, SIGMOID, IDENTITY], ids=["none", "sigmoid", "identity"])
def test_checkpoint_and_artifact_predict_the_same_value(tmp_path: Path, record: dict[str, Any]) -> None:
    folder = cross_encoder(tmp_path / "model", **record)
    expected = logits_of(folder) if record is IDENTITY else sigmoid(logits_of(folder))
    found = [output.value for output in open_predictor(folder)(TEXTS)]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    compress.export(folder, tmp_path / "graph")
    served = [output.value for output in load_onnx(tmp_path / "graph")(TEXTS)]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(served, expected, atol=1e-5)
    card = (tmp_path / "graph" / "README.md").read_text(encoding="utf-8")
    assert ("np.exp(-logits[0, 0])" in card) == (record is not IDENTITY)


@pytest.mark.parametrize("record", [{}, SIGMOID, IDENTITY], ids=["none", "sigmoid", "identity"])
def test_the_activation_survives_saving(tmp_path: Path, record: dict[str, Any]) -> None:
    folder, saved = cross_encoder(tmp_path / "model", **record), tmp_path / "saved"
    saved.mkdir()
    model = load_model(folder)
    save_model(model, saved, folder)
    assert value_activation(json.loads((saved / "config.json").read_text(encoding="utf-8"))) == activation_of(model)
    assert open_predictor(saved)(TEXTS) == open_predictor(folder)(TEXTS)


def test_a_new_head_has_no_activation(tmp_path: Path) -> None:
    folder = tiny.edit_config(tiny.write_encoder(tmp_path / "encoder"), **SIGMOID)
    assert activation_of(load_model(folder, labels=["value"], target="value")) == "none"


def test_unknown_activations_are_refused(tmp_path: Path) -> None:
    error = refused(cross_encoder(tmp_path / "model", sentence_transformers={"activation_fn": f"{MODULES}.activation.Tanh"}))
    assert "the activation Tanh" in error.message


def test_losses_and_scores_see_values() -> None:
    logits, labels = torch.tensor([[2.0], [-1.0]]), torch.tensor([0.5, 0.0])
    assert activated(logits, "none") is logits
    expected = torch.nn.functional.mse_loss(logits.sigmoid().squeeze(-1), labels)
    assert task_loss(logits, labels, torch.ones(2, 1), "value", activation="sigmoid") == expected
    np.testing.assert_allclose(values(logits.numpy(), InputSpec("value", activation="sigmoid")), logits.sigmoid()[:, 0].numpy(), rtol=1e-6)
