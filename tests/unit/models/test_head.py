"""Heads for new labels: kept, put into another order, or initialised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.core import console
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.config_heads import target_of
from compress.models.head import model_labels
from tests import tiny
from tests.unit.models.folders import save

Maker = Callable[..., Path]


def test_an_encoder_gets_a_new_head_for_labels(family: str, tmp_path: Path) -> None:
    folder = tiny.write_encoder(tmp_path, family)
    model = load_model(folder, labels=["no", "yes"])
    assert model_labels(model) == ["no", "yes"]
    assert model.config.label2id == {"no": 0, "yes": 1}
    encoder, original = model.base_model.state_dict(), tiny.make_model(family).base_model.state_dict()
    assert all(torch.equal(encoder[name], tensor) for name, tensor in original.items())


def test_a_classifier_of_other_classes_gets_a_new_head(checkpoint: Maker, family: str) -> None:
    model = load_model(checkpoint(family), labels=["a", "b", "c", "d"])
    assert model_labels(model) == ["a", "b", "c", "d"]
    assert model(torch.ones((1, 3), dtype=torch.long)).logits.shape == (1, 4)


def test_numbered_classes_get_the_names_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.make_model(labels=["LABEL_0", "LABEL_1", "LABEL_2"])
    folder = save(model, tmp_path / "model")
    again = load_model(folder, labels=["c", "a", "b"])
    assert model_labels(again) == ["c", "a", "b"]
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert "does not name its classes" in capsys.readouterr().err
    turned = load_model(folder, labels=["c", "a", "b"], numbered=["b", "a", "c"])
    assert torch.equal(turned.classifier.weight, model.classifier.weight[[2, 1, 0]])


def test_a_missing_head_needs_no_warning_about_class_names(own_checkpoint: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint(labels=["LABEL_0", "LABEL_1", "LABEL_2"])
    state = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if not name.startswith("classifier")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    load_model(folder, labels=tiny.LABELS)
    assert "does not name" not in capsys.readouterr().err


def test_a_head_that_is_initialised_again_is_reported(tmp_path: Path) -> None:
    folder, events = save(tiny.make_model(labels=["no", "yes"]), tmp_path / "model"), []
    with console.observed(events.append):
        load_model(folder, labels=["yes", "no"])
        assert events == []
        load_model(folder, labels=["bad", "good"])
    assert ["has other labels (no, yes)" in event["text"] for event in events] == [True]


@pytest.mark.parametrize("target", ["value", "span"])
def test_a_trained_value_or_span_head_is_kept(tmp_path: Path, target: Any) -> None:
    """The hub's models call a value LABEL_0 and a span's ends LABEL_0 and LABEL_1: that is no other head."""
    numbered = {"value": ["LABEL_0"], "span": ["LABEL_0", "LABEL_1"]}[target]
    folder = tiny.write_checkpoint(tmp_path / "model", labels=numbered, target=target)
    model = load_model(folder, labels={"value": ["value"], "span": ["start", "end"]}[target], target=target)
    own = tiny.make_model(labels=numbered, target=target)
    for name, tensor in own.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_a_token_classifier_with_the_labels_of_mentions_compares_mentions(tmp_path: Path) -> None:
    """A tagger of other labels is none, and becomes one with a new head."""
    folder, tagger = tiny.write_checkpoint(tmp_path / "a", target="mentions"), tiny.write_checkpoint(tmp_path / "b", target="tags")
    assert target_of(read_config(folder)) == "mentions"
    assert target_of(read_config(tagger)) == "tags"
    model = load_model(tagger, labels=["other", "antecedent"], target="mentions")
    assert model_labels(model) == ["other", "antecedent"]
    kept = load_model(folder, labels=["other", "antecedent"], target="mentions")
    assert torch.equal(kept.classifier.weight, tiny.make_model(target="mentions").classifier.weight)  # pyright: ignore[reportArgumentType]
