"""A static model computes what fastText says, whatever the padding; its folder holds all of it; what works on layers refuses it."""

from __future__ import annotations

import importlib
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
from compress.models.family import STATIC, family_of
from compress.models.head import model_labels
from compress.models.layers import encoder_layers
from compress.models.model_shape import count_params, model_shape
from compress.models.shape import StaticShape, static_shape
from compress.models.static_model import EXACT, bigram_buckets, bigram_multiplier
from compress.stage import Inputs
from compress.training.learning_rate import STATIC_LR, default_lr
from tests import tiny
from tests.unit.models.test_bilstm import REFUSED

TARGETS = ["class", "labels", "value"]
SEPARATOR = tiny.vocabulary().index("[SEP]")


def by_hand(model: Any, ids: np.ndarray) -> np.ndarray:
    """Return the logits of one input, token by token."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in model.named_parameters()}
    tokens, bigrams = (weights[f"static.embeddings.{kind}_embeddings.weight"] for kind in ("word", "bigram"))
    texts = model.config.texts
    sums, count, text = np.zeros((texts, tokens.shape[1] + bigrams.shape[1])), np.zeros(texts), 0
    for position, token in enumerate(ids.tolist()):
        sums[text, : tokens.shape[1]] += tokens[token]
        count[text] += 1
        if position:
            sums[text, tokens.shape[1] :] += bigrams[(int(ids[position - 1]) * bigram_multiplier(len(tokens)) + token) % len(bigrams)]
        if token == SEPARATOR:
            text = texts - 1
    means = sums / np.maximum(count, 1)[:, None]
    if texts == 2:
        means = np.concatenate([means[0], means[1], abs(means[0] - means[1]), means[0] * means[1]])
    hidden = np.maximum(weights["static.dense.weight"] @ means.ravel() + weights["static.dense.bias"], 0)
    return weights["classifier.weight"] @ hidden + weights["classifier.bias"]


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("pairs", [False, True])
def test_a_batch_is_what_each_text_is_by_hand(texts: int, pairs: bool) -> None:
    model, data = tiny.make_static(texts=texts), tiny.encoded(pairs=pairs)
    expected = np.stack([by_hand(model, ids) for ids in data.input_ids])
    np.testing.assert_allclose(torch_forward(model)(data.batch(range(len(data)))), expected, atol=1e-5)


@pytest.mark.parametrize("texts", [1, 2])
def test_padding_changes_nothing_on_either_side(texts: int) -> None:
    forward, data = torch_forward(tiny.make_static(texts=texts)), tiny.encoded(pairs=True)
    together, wide = forward(data.batch(range(12))), forward(data.batch(range(12), pad_to=tiny.POSITIONS))
    left = {name: array[:, ::-1] for name, array in data.batch(range(12)).items()}
    for row, ids in enumerate(data.input_ids):
        left["input_ids"][row, -len(ids) :] = ids
    for number in range(12):
        alone = forward(data.batch([number]))[0]
        for logits in (together, wide, forward({name: array.copy() for name, array in left.items()})):
            np.testing.assert_allclose(logits[number], alone, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_inputs(length: int) -> None:
    ids = np.full((1, length), 9)
    for texts in (1, 2):
        model = tiny.make_static(texts=texts)
        logits = torch_forward(model)({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(logits[0], by_hand(model, ids[0]), atol=1e-5)


def test_without_a_mask_every_token_counts() -> None:
    model, data = tiny.make_static(), tiny.encoded()
    batch = {name: torch.from_numpy(array) for name, array in data.batch([5]).items() if name != "token_type_ids"}
    assert torch.equal(model(batch["input_ids"]).logits, model(**batch).logits)


@pytest.mark.parametrize("vocab_size", [1, 84, 30_522, 250_002, 4_000_000])
def test_buckets_need_no_more_bits_than_float32_has(vocab_size: int) -> None:
    factor, largest = bigram_multiplier(vocab_size), vocab_size - 1
    assert factor >= 1
    assert factor % 2 == 1
    assert largest * factor + largest < EXACT
    assert int(bigram_buckets(torch.tensor([[largest, largest]]), factor, 1000)) == (largest * factor + largest) % 1000


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_saved_is_reloaded(target: Any, texts: int, tmp_path: Path) -> None:
    model = tiny.make_static(target=target, texts=texts)
    folder = tiny.write_static(tmp_path / "model", target=target, texts=texts)
    config, reloaded = read_config(folder), load_model(folder)
    assert (config["model_type"], target_of(config)) == ("compress-static", target)
    assert "compress" not in config
    assert model_labels(reloaded) == model_labels(model)
    batch = tiny.encoded(pairs=True).batch(range(12))
    assert (torch_forward(reloaded)(batch) == torch_forward(model)(batch)).all()


def test_other_labels_get_a_new_head_and_nothing_else(tmp_path: Path) -> None:
    folder = tiny.write_static(tmp_path / "model")
    old, new = load_model(folder), load_model(folder, labels=["a", "b"])
    changed = [name for name, tensor in new.state_dict().items() if not torch.equal(tensor, old.state_dict()[name])]
    assert changed == ["classifier.weight", "classifier.bias"]
    swapped = load_model(folder, labels=tiny.LABELS[::-1])
    assert torch.equal(swapped.classifier.weight, old.classifier.weight.flip(0))


def test_tokens_have_no_predictions(tmp_path: Path) -> None:
    folder = tiny.write_static(tmp_path / "model")
    with pytest.raises(ModelError, match="no predictions for its tokens") as caught:
        load_model(folder, labels=["x", "y"], target="tags")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("texts", [1, 2])
def test_its_shape_counts_all_but_the_tables_and_the_head(texts: int) -> None:
    model = tiny.make_static(texts=texts)
    shape = model_shape(model)
    assert shape == static_shape(StaticShape(embedding=12, bigram=6, buckets=97, ffn=10, texts=texts))
    assert (shape.hidden, shape.layers, shape.as_json(), list(encoder_layers(model))) == (12, (), [], [])
    apart = [*model.static.embeddings.parameters(), *model.classifier.parameters()]
    assert shape.params() == count_params(model) - sum(parameter.numel() for parameter in apart)
    read = 18 if texts == 1 else 72
    assert shape.flops(7) == 2 * (7 * texts * 18 + read * 10)


def test_fewer_tokens_keep_their_embeddings() -> None:
    model, data = tiny.make_static(texts=2), tiny.encoded(pairs=True)
    model.static.embeddings["bigram_embeddings"].weight.data.zero_()  # tokens get new ids, and bigrams other buckets
    before = torch_forward(model)(data.batch(range(12)))
    kept = sorted({0, *np.concatenate(data.input_ids).tolist()})
    shrink_embeddings(model, kept)
    batch = data.batch(range(12))
    new_ids = np.zeros(len(tiny.vocabulary()), dtype=np.int64)
    new_ids[kept] = np.arange(len(kept))
    after = torch_forward(model)({**batch, "input_ids": new_ids[batch["input_ids"]]})
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert (model.config.vocab_size, model.config.sep_token_id) == (len(kept), kept.index(SEPARATOR))


def test_gradients_of_the_tables_are_sparse() -> None:
    model = tiny.make_static(texts=2).train()
    batch = {name: torch.from_numpy(array) for name, array in tiny.encoded(pairs=True).batch([0, 1]).items() if name != "token_type_ids"}
    model(**batch).logits.sum().backward()
    sparse = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.is_sparse}
    assert sparse == {"static.embeddings.word_embeddings.weight", "static.embeddings.bigram_embeddings.weight"}


def test_it_is_no_family_of_encoders() -> None:
    assert family_of("compress-static") is STATIC
    assert not STATIC.has_layers
    assert default_lr(tiny.make_static()) == STATIC_LR


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_size": None}, "embedding_size is None"),
        ({"bigram_buckets": 0}, "bigram_buckets is 0"),
        ({"bigram_buckets": 1 << 25}, "bigram_buckets is 33554432"),
        ({"bigram_size": None}, "bigram_size is None"),
        ({"texts": 3}, "texts is 3"),
        ({"texts": 2, "sep_token_id": None}, "sep_token_id is None"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"compress": {"version": 1}}, "describes layers"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = tiny.edit_config(tiny.write_static(tmp_path / "model"), **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(("stage", "kind", "given"), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_verbs_that_need_layers_refuse_it(
    stage: str, kind: type[settings.Settings], given: dict[str, Any], tiny_task: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny.write_static(tmp_path / "model")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="does not support static models") as caught:
        importlib.import_module(stage).run(
            Inputs({"model": folder}, 0, Task(resolve(tiny_task))), kind.model_validate(given), tmp_path / "out"
        )
    assert caught.value.exit_code == 2
