"""The teacher's answers, computed once."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compress import fs
from compress.distill import cache as module
from compress.distill.cache import TeacherOutputs, teacher_outputs
from compress.errors import ResourceError
from compress.model.device import to_tensors
from compress.model.scorer import torch_forward
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


def ask(family: str = "bert", layers: tuple[int, ...] = (3,), digest: str = "abc", data: Any = None, model: Any = None) -> TeacherOutputs:
    """Ask the tiny teacher."""
    return teacher_outputs(model or tiny.make_model(family), digest, data or tiny.encoded(family), layers, CPU)


def test_answers_are_those_of_the_teacher(family: str) -> None:
    teacher, data = tiny.make_model(family), tiny.encoded(family)
    answers = ask(family, (1, 3))
    batch = data.batch(range(12))
    np.testing.assert_allclose(answers.logits, torch_forward(teacher)(batch), atol=1e-5)
    with torch.no_grad():
        states = teacher(**to_tensors(batch, teacher, CPU), output_hidden_states=True).hidden_states
    width = batch["input_ids"].shape[1]
    found = answers.hidden_batch(range(12), width)
    expected = torch.stack([states[1], states[3]], dim=2) * torch.from_numpy(batch["attention_mask"])[:, :, None, None]
    assert found.shape == (12, width, 2, tiny.HIDDEN)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)  # kept as float16


def test_batches_of_answers_follow_the_positions() -> None:
    answers = ask()
    all_of_them = answers.hidden_batch(range(12), 50)
    picked = answers.hidden_batch([7, 2, 7], 60)
    assert torch.equal(picked[:, :50], all_of_them[[7, 2, 7]])
    assert not picked[:, 50:].any()


def test_the_second_time_nothing_is_computed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = ask()
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed again"))
    second = ask()
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.hidden is not None
    assert second.hidden is not None
    np.testing.assert_array_equal(first.hidden, second.hidden)
    assert len(list(cache.iterdir())) == 1


def test_anything_else_is_another_answer(cache: Path) -> None:
    data = tiny.encoded()
    ids = copy.deepcopy(data.input_ids)
    ids[3][2] += 1
    types = copy.deepcopy(data.token_type_ids)
    types[3][2] = 1
    cut = [row[:-1] for row in data.input_ids]
    # The same tokens in the same order, but cut into other sentences.
    moved = [np.concatenate([data.input_ids[0], data.input_ids[1][:1]]), data.input_ids[1][1:], *data.input_ids[2:]]
    shapes = [[np.zeros_like(row) for row in rows] for rows in (cut, moved)]
    from compress.task.encode import Encoded

    ask()
    ask(digest="abd")
    ask(layers=(2,))
    ask(layers=(2, 3))
    ask(layers=())
    ask(data=Encoded(ids, data.token_type_ids, data.labels, 0))
    ask(data=Encoded(data.input_ids, types, data.labels, 0))
    ask(data=Encoded(cut, shapes[0], data.labels, 0))
    ask(data=Encoded(moved, shapes[1], data.labels, 0))
    assert len(list(cache.iterdir())) == 9
    ask(data=Encoded(data.input_ids, data.token_type_ids, 1 - data.labels, 0))  # labels are not the teacher's business
    assert len(list(cache.iterdir())) == 9


def test_hidden_states_beyond_the_limit_are_not_kept(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    tokens = int(tiny.encoded().lengths.sum())
    monkeypatch.setattr(module, "MAX_HIDDEN_BYTES", tokens * tiny.HIDDEN * 2)
    assert ask(layers=(3,)).hidden is not None
    answers = ask(layers=(2, 3))
    assert answers.hidden is None
    assert answers.logits.shape == (12, 3)


def test_no_layers_no_hidden_states() -> None:
    assert ask(layers=()).hidden is None


def test_a_full_disk_is_told_before_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed"))
    with pytest.raises(ResourceError, match="free"):
        ask()


def test_a_teacher_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def fail(*args: Any) -> None:
        (args[5] / "hidden.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_compute", fail)
        with pytest.raises(KeyboardInterrupt):
            ask()
    assert not list(cache.iterdir())
    assert ask().logits.shape == (12, 3)


def test_what_is_kept_has_its_manifest(cache: Path) -> None:
    ask()
    (folder,) = cache.iterdir()
    manifest = fs.read_manifest(folder)
    assert manifest is not None
    assert manifest["key"] == folder.name
    assert manifest["layers"] == [3]
