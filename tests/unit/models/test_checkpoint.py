"""InputSpec and writing classifiers, dense and pruned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compress.core import console
from compress.core.errors import ModelError, ResourceError
from compress.models import checkpoint as module
from compress.models.checkpoint import load_model, save_model
from compress.models.family import FAMILIES
from compress.models.head import model_labels
from compress.models.model_shape import count_params, model_shape, record_shape
from compress.models.shape import CONFIG_KEY, LayerShape, Shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

Maker = Callable[..., Path]
KEPT = [Kept([0, 3], [1, 2, 3]), Kept([], []), Kept([1], [0])]


def same_weights(first: Any, second: Any) -> bool:
    """Compare two models tensor by tensor."""
    left, right = first.state_dict(), second.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def save(model: Any, folder: Path, family: str = "bert") -> Path:
    """Save a model with its family's tokenizer."""
    folder.mkdir()
    tiny.write_tokenizer(folder, family)
    save_model(model, folder, folder)
    return folder


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


def test_uniform_shapes_that_the_config_says_need_no_entry() -> None:
    model = tiny.make_model()
    setattr(model.config, CONFIG_KEY, {"stale": True})
    record_shape(model, model_shape(tiny.make_model()))
    assert not hasattr(model.config, CONFIG_KEY)


def test_model_shape_and_parameter_count() -> None:
    model = tiny.make_model()
    assert model_shape(model) == Shape(tiny.HIDDEN, tiny.HEAD_SIZE, (LayerShape(tiny.HEADS, tiny.FFN),) * tiny.LAYERS)
    before = count_params(model)
    slice_model(model, KEPT)
    heads, neurons = 3 * tiny.HEADS - 3, 3 * tiny.FFN - 4
    assert before - count_params(model) == heads * tiny.HEAD_SIZE * (4 * tiny.HIDDEN + 3) + neurons * (2 * tiny.HIDDEN + 1)


def test_an_encoder_without_a_classifier_is_refused_without_labels(family: str, tmp_path: Path) -> None:
    folder = tiny.write_encoder(tmp_path, family)
    with pytest.raises(ModelError, match="without a classifier") as caught:
        load_model(folder)
    assert "compress finetune" in (caught.value.hint or "")


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


def test_fine_tuning_an_encoder_that_lacks_an_encoder_weight_is_refused(own_checkpoint: Maker) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.2.output.dense.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layer\.2\.output\.dense\.weight"):
        load_model(folder, labels=tiny.LABELS)


def test_classes_that_are_only_numbered_are_taken_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.make_model(labels=["LABEL_0", "LABEL_1", "LABEL_2"])
    folder = save(model, tmp_path / "model")
    again = load_model(folder, labels=["c", "a", "b"])
    assert model_labels(again) == ["c", "a", "b"]
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert "does not name its classes" in capsys.readouterr().err
    turned = load_model(folder, labels=["c", "a", "b"], numbered=["b", "a", "c"])
    assert torch.equal(turned.classifier.weight, model.classifier.weight[[2, 1, 0]])


def test_a_head_that_is_missing_is_no_known_one(own_checkpoint: Maker, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_an_onnx_artifact_is_no_checkpoint(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="ONNX artifact, and this needs a checkpoint"):
        load_model(folder)


def test_a_model_larger_than_memory_is_refused(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    with pytest.raises(ResourceError, match="memory") as caught:
        load_model(checkpoint())
    assert caught.value.exit_code == 5


def test_half_precision_weights_load_as_float32(own_checkpoint: Maker) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    tiny.edit_config(folder, dtype="float16")
    assert {parameter.dtype for parameter in load_model(folder).parameters()} == {torch.float32}


def test_loading_never_reaches_for_pickles_or_code(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    seen: dict[str, Any] = {}
    original = transformers.BertForSequenceClassification.from_pretrained

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "from_pretrained", spy)
    module.load_model(checkpoint())
    assert seen["use_safetensors"] is True
    assert seen["trust_remote_code"] is False
    assert seen["local_files_only"] is True


@pytest.mark.parametrize("target", ["value", "span"])
def test_a_trained_head_whose_names_say_nothing_is_kept(tmp_path: Path, target: Any) -> None:
    """The hub's models call a value LABEL_0 and a span's ends LABEL_0 and LABEL_1: that is no other head."""
    numbered = {"value": ["LABEL_0"], "span": ["LABEL_0", "LABEL_1"]}[target]
    folder = tiny.write_checkpoint(tmp_path / "model", labels=numbered, target=target)
    model = load_model(folder, labels={"value": ["value"], "span": ["start", "end"]}[target], target=target)
    own = tiny.make_model(labels=numbered, target=target)
    for name, tensor in own.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
