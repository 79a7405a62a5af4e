"""InputSpec and writing classifiers, dense and pruned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.core.errors import ModelError
from compress.models.checkpoint import load_model
from compress.models.family import FAMILIES
from compress.models.head import model_labels
from compress.models.model_shape import count_params, model_shape
from compress.models.shape import CONFIG_KEY, LayerShape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.unit.models.folders import refused, save, write_pruned

Maker = Callable[..., Path]
KEPT = [Kept([0, 3], [1, 2, 3]), Kept([], []), Kept([1], [0])]


def same_weights(first: Any, second: Any) -> bool:
    """Compare two models tensor by tensor."""
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_checkpoint_of_transformers_loads_whole(checkpoint: Maker, family: str) -> None:
    model = load_model(checkpoint(family))
    assert same_weights(model, tiny.make_model(family))
    assert not model.training
    assert model_labels(model) == tiny.LABELS
    assert type(model).__name__ == FAMILIES[family].head_class("class")


def test_a_saved_dense_model_loads_in_plain_transformers(family: str, tmp_path: Path) -> None:
    import transformers

    model = tiny.make_model(family)
    folder = save(model, tmp_path / "model", family)
    assert CONFIG_KEY not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder))
    assert same_weights(plain, model)


def test_a_pruned_model_survives_saving_and_loading(family: str, tmp_path: Path) -> None:
    model = tiny.make_model(family)
    slice_model(model, KEPT)
    folder = save(model, tmp_path / "model", family)
    reloaded = load_model(folder)
    entry = json.loads((folder / "config.json").read_text(encoding="utf-8"))[CONFIG_KEY]
    assert same_weights(reloaded, model)
    assert model_labels(reloaded) == tiny.LABELS
    assert entry == {
        "version": 1,
        "head_size": tiny.HEAD_SIZE,
        "layers": [{"heads": 2, "ffn": 3}, {"heads": 0, "ffn": 0}, {"heads": 1, "ffn": 1}],
    }


def test_pruned_weights_are_stored_sliced(checkpoint: Maker, tmp_path: Path) -> None:
    model = tiny.make_model()
    slice_model(model, KEPT)
    folder = save(model, tmp_path / "model")
    stored = (folder / "model.safetensors").stat().st_size
    assert stored < 0.8 * (checkpoint() / "model.safetensors").stat().st_size
    assert stored >= 4 * count_params(model)


def test_a_pruned_model_can_be_pruned_and_saved_again(family: str, tmp_path: Path) -> None:
    model = tiny.make_model(family)
    slice_model(model, KEPT)
    again = load_model(save(model, tmp_path / "first", family))
    slice_model(again, [Kept([1], [0]), Kept([], []), Kept([], [])])
    reloaded = load_model(save(again, tmp_path / "second", family))
    assert same_weights(reloaded, again)
    assert model_shape(reloaded).layers == (LayerShape(1, 1), LayerShape(0, 0), LayerShape(0, 0))


def test_an_encoder_without_a_classifier_is_refused_without_labels(family: str, tmp_path: Path) -> None:
    folder = tiny.write_encoder(tmp_path, family)
    with pytest.raises(ModelError, match="without a classifier") as caught:
        load_model(folder)
    assert "compress finetune" in (caught.value.hint or "")


def test_fine_tuning_an_encoder_that_lacks_an_encoder_weight_is_refused(own_checkpoint: Maker) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.2.output.dense.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layer\.2\.output\.dense\.weight"):
        load_model(folder, labels=tiny.LABELS)


def test_a_pruned_classifier_keeps_its_labels(tmp_path: Path) -> None:
    model = tiny.make_model()
    slice_model(model, KEPT)
    folder = save(model, tmp_path / "model")
    assert same_weights(load_model(folder, labels=tiny.LABELS), model)
    turned = list(reversed(tiny.LABELS))
    again = load_model(folder, labels=turned)
    assert (model_labels(again), model_shape(again)) == (turned, model_shape(model))
    assert torch.equal(again.classifier.weight, model.classifier.weight.flip(0))
    with pytest.raises(ModelError, match="for other labels"):
        load_model(folder, labels=["no", "yes"])


def test_an_onnx_artifact_is_not_a_checkpoint(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="ONNX artifact, and this needs a checkpoint"):
        load_model(folder)


def test_missing_tensor_is_named(own_checkpoint: Maker) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.0.attention.self.query.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert "query.weight" in refused(folder).message


def test_weights_of_another_width(own_checkpoint: Maker) -> None:
    refused(tiny.edit_config(own_checkpoint(), intermediate_size=tiny.FFN * 2))


def test_pruned_weights_of_other_shapes(tmp_path: Path) -> None:
    folder = write_pruned(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["compress"]["layers"][0]["ffn"] = 4
    tiny.edit_config(folder, compress=config["compress"])
    assert "do not fit" in refused(folder).message


def test_pruned_weights_that_lack_a_tensor(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_pruned(tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    del state["classifier.bias"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert "do not fit" in refused(folder).message


def test_unknown_activation(own_checkpoint: Maker) -> None:
    refused(tiny.edit_config(own_checkpoint(), hidden_act="nonsense"))


def test_unknown_activation_of_a_pruned_model(tmp_path: Path) -> None:
    refused(tiny.edit_config(write_pruned(tmp_path / "model"), hidden_act="nonsense"))
