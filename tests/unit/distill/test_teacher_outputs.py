"""A teacher's outputs, computed once and cached."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compress.core import artifacts, disk
from compress.core.errors import ResourceError
from compress.distill import teacher_outputs as module
from compress.distill.teacher_outputs import TeacherOutputs, compute_teacher_outputs
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


def outputs_of(
    family: str = "bert", layers: tuple[int, ...] = (3,), digest: str = "abc", data: Any = None, model: Any = None
) -> TeacherOutputs:
    """Return the outputs of the tiny teacher."""
    return compute_teacher_outputs(
        model or tiny.make_model(family), digest, data or tiny.encoded(family), [("hidden", layer) for layer in layers], CPU
    )


def test_outputs_are_those_of_the_teacher(family: str) -> None:
    teacher, data = tiny.make_model(family), tiny.encoded(family)
    outputs = outputs_of(family, (1, 3))
    batch = data.batch(range(12))
    np.testing.assert_allclose(outputs.logits, torch_forward(teacher)(batch), atol=1e-5)
    with torch.no_grad():
        states = teacher(**to_tensors(batch, teacher, CPU), output_hidden_states=True).hidden_states
    width = batch["input_ids"].shape[1]
    features = outputs.features_batch(range(12), width)
    mask = torch.from_numpy(batch["attention_mask"]).unsqueeze(-1)
    assert set(features) == {("hidden", 1), ("hidden", 3)}
    for (_, number), rows in features.items():
        assert rows.shape == (12, width, tiny.HIDDEN)
        torch.testing.assert_close(rows, states[number] * mask, rtol=2e-3, atol=2e-3)  # cached as float16


def test_batches_follow_the_positions() -> None:
    outputs, feature = outputs_of(), ("hidden", 3)
    all_of_them = outputs.features_batch(range(12), 50)[feature]
    picked = outputs.features_batch([7, 2, 7], 60)[feature]
    assert torch.equal(picked[:, :50], all_of_them[[7, 2, 7]])
    assert not picked[:, 50:].any()
    assert torch.equal(outputs.features_batch([7, 2], 4)[feature], all_of_them[[7, 2], :4])


def test_the_second_time_nothing_is_computed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = outputs_of()
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed again"))
    second = outputs_of()
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.features is not None
    assert second.features is not None
    np.testing.assert_array_equal(first.features["hidden", 3], second.features["hidden", 3])
    assert len(list(cache.iterdir())) == 1


def test_every_other_input_is_another_entry(cache: Path) -> None:
    data = tiny.encoded()
    ids = copy.deepcopy(data.input_ids)
    ids[3][2] += 1
    types = copy.deepcopy(data.token_type_ids)
    types[3][2] = 1
    cut = [row[:-1] for row in data.input_ids]
    # The same tokens in the same order, but split into other sentences.
    moved = [np.concatenate([data.input_ids[0], data.input_ids[1][:1]]), data.input_ids[1][1:], *data.input_ids[2:]]
    shapes = [[np.zeros_like(row) for row in rows] for rows in (cut, moved)]
    from compress.data.encoded import Encoded

    outputs_of()
    outputs_of(digest="abd")
    outputs_of(layers=(2,))
    outputs_of(layers=(2, 3))
    outputs_of(layers=())
    outputs_of(data=Encoded(ids, data.token_type_ids, data.labels, 0))
    outputs_of(data=Encoded(data.input_ids, types, data.labels, 0))
    outputs_of(data=Encoded(cut, shapes[0], data.labels, 0))
    outputs_of(data=Encoded(moved, shapes[1], data.labels, 0))
    assert len(list(cache.iterdir())) == 9
    outputs_of(data=Encoded(data.input_ids, data.token_type_ids, 1 - data.labels, 0))  # the teacher does not read labels
    assert len(list(cache.iterdir())) == 9


def test_vectors_of_another_pooling_are_another_entry(tmp_path: Path) -> None:
    folder = tiny.write_encoder(tmp_path / "encoder")
    first, second = (outputs_of(model=load_model(folder, target="vector", pooling=pooling)) for pooling in ("mean", "cls"))
    assert np.abs(first.logits - second.logits).max() > 0.1


def test_hidden_states_beyond_the_limit_are_not_cached(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    tokens = int(tiny.encoded().lengths.sum())
    monkeypatch.setattr(module, "MAX_FEATURE_BYTES", tokens * tiny.HIDDEN * 2)
    assert outputs_of(layers=(3,)).features is not None
    outputs = outputs_of(layers=(2, 3))
    assert outputs.features is None
    assert outputs.logits.shape == (12, 3)


def test_hidden_states_are_not_cached_on_a_full_disk_but_read_if_present(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert outputs_of(layers=(3,)).features is not None
    monkeypatch.setattr(disk, "free_space", lambda path: 1)
    monkeypatch.setattr(disk, "check_space", lambda path, needed, *_: None)
    assert outputs_of(layers=(3,)).features is not None
    assert outputs_of(layers=(2,)).features is None


def test_without_layers_there_are_no_hidden_states() -> None:
    assert outputs_of(layers=()).features == {}


def test_a_full_disk_is_an_error_before_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed"))
    with pytest.raises(ResourceError, match="free"):
        outputs_of()


def test_a_failed_computation_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def fail(*args: Any) -> None:
        (args[3] / "hidden.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_compute", fail)
        with pytest.raises(KeyboardInterrupt):
            outputs_of()
    assert not list(cache.iterdir())
    assert outputs_of().logits.shape == (12, 3)


def test_an_entry_has_its_manifest(cache: Path) -> None:
    outputs_of()
    (folder,) = cache.iterdir()
    manifest = artifacts.read_manifest(folder)
    assert manifest is not None
    assert manifest["key"] == folder.name
    assert manifest["features"] == [["hidden", 3]]


def test_queries_and_keys_are_the_outputs_of_their_projections() -> None:
    teacher, data = tiny.make_model(), tiny.encoded()
    outputs = compute_teacher_outputs(teacher, "abc", data, [("query", 2), ("value", 1)], CPU)
    query = next(layer for number, layer in enumerate(encoder_layers(teacher)) if number == 1).query
    seen: list[torch.Tensor] = []
    query.register_forward_hook(lambda module, args, output: seen.append(output))
    batch = data.batch([5, 3])
    torch_forward(teacher)(batch)
    rows = outputs.features_batch([5, 3], batch["input_ids"].shape[1])["query", 2]
    mask = torch.from_numpy(batch["attention_mask"]).unsqueeze(-1)
    torch.testing.assert_close(rows, seen[0] * mask, rtol=2e-3, atol=2e-3)
