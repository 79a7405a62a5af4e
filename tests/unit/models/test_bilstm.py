"""A BiLSTM computes what the paper says, whatever the padding; its folder holds all of it; and what works on layers refuses it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import settings
from compress.core.errors import ModelError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.editing.vocabulary import shrink_embeddings
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.config_heads import target_of
from compress.models.family import BILSTM, FAMILIES, family_of
from compress.models.head import model_labels
from compress.models.layers import encoder_layers
from compress.models.low_rank import word_embeddings
from compress.models.model_shape import count_params, model_shape
from compress.models.shape import LstmShape, lstm_shape
from compress.stage import Inputs
from compress.training.learning_rate import RECURRENT_LR, default_lr
from tests import tiny

Maker = Callable[..., Path]
TARGETS = ["class", "labels", "value", "tags", "span"]
REFUSED: list[tuple[str, type[settings.Settings], dict[str, Any]]] = [
    ("compress.prune", settings.PruneSettings, {"target_flops": 0.5}),
    ("compress.prune", settings.PruneSettings, {"method": "vocab"}),
    ("compress.factorize", settings.FactorizeSettings, {"rank": 2}),
    ("compress.share", settings.ShareSettings, {"layers": 1}),
    ("compress.training", settings.FinetuneSettings, {"mode": "lora"}),
    ("compress.training", settings.FinetuneSettings, {"mode": "adapter"}),
    ("compress.training", settings.FinetuneSettings, {"mode": "frozen"}),
]


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def direction(model: Any, words: np.ndarray, suffix: str) -> np.ndarray:
    """Return the states of one direction, (tokens, units), in the order in which it reads the words."""
    weight = {name: tensor.detach().double().numpy() for name, tensor in model.bilstm.lstm.named_parameters()}
    units = model.bilstm.lstm.hidden_size
    state, cell, states = np.zeros(units), np.zeros(units), []
    for word in words:
        gates = weight[f"weight_ih_l0{suffix}"] @ word + weight[f"bias_ih_l0{suffix}"]
        gates = gates + weight[f"weight_hh_l0{suffix}"] @ state + weight[f"bias_hh_l0{suffix}"]
        enter, forget, new, leave = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        state = sigmoid(leave) * np.tanh(cell)
        states.append(state)
    return np.array(states)


@pytest.mark.parametrize("target", ["class", "tags"])
def test_one_text_by_hand(target: str) -> None:
    model, data = tiny.make_bilstm(target=target), tiny.encoded()
    ids = data.input_ids[3]
    words = word_embeddings(model).weight.detach().double().numpy()[ids]
    forwards, backwards = direction(model, words, ""), direction(model, words[::-1], "_reverse")
    last = np.concatenate([forwards[-1], backwards[-1]])[None]
    read = last if target == "class" else np.concatenate([forwards, backwards[::-1]], axis=1)
    for linear in (model.bilstm.dense, model.classifier):
        weight, bias = (tensor.detach().double().numpy() for tensor in (linear.weight, linear.bias))
        read = read @ weight.T + bias
        read = np.maximum(read, 0) if linear is model.bilstm.dense else read
    logits = torch_forward(model)(data.batch([3]))
    np.testing.assert_allclose(logits if target == "class" else logits[0], read, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_padding_changes_nothing(target: str) -> None:
    forward, data = torch_forward(tiny.make_bilstm(target=target)), tiny.encoded(pairs=True)
    together, wide = forward(data.batch(range(12))), forward(data.batch(range(12), pad_to=tiny.POSITIONS))
    for number, length in enumerate(data.lengths):
        alone = forward(data.batch([number]))[0]
        for logits in (together, wide):
            unpadded = logits[number] if logits.ndim == 2 else logits[number, :length]
            np.testing.assert_allclose(unpadded, alone, atol=1e-5)


def test_without_a_mask_every_token_counts() -> None:
    model, data = tiny.make_bilstm(), tiny.encoded()
    batch = {name: torch.from_numpy(array) for name, array in data.batch([5]).items() if name != "token_type_ids"}
    assert torch.equal(model(batch["input_ids"]).logits, model(**batch).logits)


@pytest.mark.parametrize("target", TARGETS)
def test_saved_is_reloaded(target: Any, tmp_path: Path) -> None:
    model = tiny.make_bilstm(target=target)
    folder = tiny.write_bilstm(tmp_path / "model", target=target)
    config, reloaded = read_config(folder), load_model(folder)
    assert (config["model_type"], target_of(config)) == ("compress-bilstm", target)
    assert "compress" not in config
    assert model_labels(reloaded) == model_labels(model)
    batch = tiny.encoded().batch(range(12))
    assert (torch_forward(reloaded)(batch) == torch_forward(model)(batch)).all()


def test_other_labels_get_a_new_head_and_nothing_else(tmp_path: Path) -> None:
    folder = tiny.write_bilstm(tmp_path / "model")
    old, new = load_model(folder), load_model(folder, labels=["a", "b"])
    changed = [name for name, tensor in new.state_dict().items() if not torch.equal(tensor, old.state_dict()[name])]
    assert changed == ["classifier.weight", "classifier.bias"]
    tags = load_model(folder, labels=["x", "y", "z", "w"], target="tags")
    assert torch.equal(tags.bilstm.lstm.weight_ih_l0, old.bilstm.lstm.weight_ih_l0)
    swapped = load_model(folder, labels=tiny.LABELS[::-1])
    assert torch.equal(swapped.classifier.weight, old.classifier.weight.flip(0))


def test_its_shape_counts_all_but_words_and_head() -> None:
    model = tiny.make_bilstm()
    shape = model_shape(model)
    assert shape == lstm_shape(LstmShape(embedding=20, units=12, ffn=10))
    assert (shape.hidden, shape.layers, shape.as_json(), list(encoder_layers(model))) == (24, (), [], [])
    apart = word_embeddings(model).weight.numel() + sum(parameter.numel() for parameter in model.classifier.parameters())
    assert shape.params() == count_params(model) - apart
    products = 2 * 4 * 12 * (20 + 12)  # multiply-adds of a token: four gates of both directions
    assert shape.flops(7) == 2 * (7 * products + 24 * 10)


def test_fewer_words_answer_as_before() -> None:
    model, data = tiny.make_bilstm(), tiny.encoded()
    before = torch_forward(model)(data.batch(range(12)))
    kept = sorted({0, *np.concatenate(data.input_ids).tolist()})
    shrink_embeddings(model, kept)
    ids = [np.array([kept.index(number) for number in ids]) for ids in data.input_ids]
    after = torch_forward(model)({**data.batch(range(12)), "input_ids": _padded(ids)})
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert model.config.vocab_size == len(kept)


def _padded(ids: list[np.ndarray]) -> np.ndarray:
    width = max(map(len, ids))
    return np.stack([np.pad(row, (0, width - len(row))) for row in ids])


def test_it_is_no_family_of_encoders() -> None:
    assert family_of("compress-bilstm") is BILSTM
    assert not BILSTM.has_layers
    assert all(family.has_layers for family in FAMILIES.values())
    assert default_lr(tiny.make_bilstm()) == RECURRENT_LR


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 23}, "hidden_size is not a multiple of 2"),
        ({"hidden_size": 10**6}, "hidden_size is 1000000"),
        ({"embedding_size": None}, "embedding_size is None"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"compress": {"version": 1}}, "describes layers"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = tiny.edit_config(tiny.write_bilstm(tmp_path / "model"), **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_config_of_more_weights_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    folder = tiny.edit_config(tiny.write_bilstm(tmp_path / "model"), hidden_size=16_384)
    with pytest.raises(ModelError, match="belongs to another model|describes"):
        load_model(folder)


@pytest.mark.parametrize(("stage", "kind", "given"), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_verbs_that_need_layers_refuse_it(
    stage: str, kind: type[settings.Settings], given: dict[str, Any], tiny_task: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny.write_bilstm(tmp_path / "model")
    inputs = Inputs({"model": folder}, 0, Task(resolve(tiny_task)))
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="does not support BiLSTMs") as caught:
        importlib.import_module(stage).run(inputs, kind.model_validate(given), tmp_path / "out")
    assert caught.value.exit_code == 2
