"""The teacher's answers, computed once."""

from __future__ import annotations

import copy
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compress.core import artifacts, disk, files, locks
from compress.core.errors import ResourceError
from compress.distill import cache as module
from compress.distill import cache_files
from compress.distill.cache import TeacherOutputs, teacher_outputs
from compress.inference.forward import torch_forward
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


def ask(family: str = "bert", layers: tuple[int, ...] = (3,), digest: str = "abc", data: Any = None, model: Any = None) -> TeacherOutputs:
    """Ask the tiny teacher."""
    return teacher_outputs(
        model or tiny.make_model(family), digest, data or tiny.encoded(family), [("hidden", layer) for layer in layers], CPU
    )


def test_answers_are_those_of_the_teacher(family: str) -> None:
    teacher, data = tiny.make_model(family), tiny.encoded(family)
    answers = ask(family, (1, 3))
    batch = data.batch(range(12))
    np.testing.assert_allclose(answers.logits, torch_forward(teacher)(batch), atol=1e-5)
    with torch.no_grad():
        states = teacher(**to_tensors(batch, teacher, CPU), output_hidden_states=True).hidden_states
    width = batch["input_ids"].shape[1]
    found = answers.features_batch(range(12), width)
    mask = torch.from_numpy(batch["attention_mask"]).unsqueeze(-1)
    assert set(found) == {("hidden", 1), ("hidden", 3)}
    for (_, number), rows in found.items():
        assert rows.shape == (12, width, tiny.HIDDEN)
        torch.testing.assert_close(rows, states[number] * mask, rtol=2e-3, atol=2e-3)  # kept as float16


def test_batches_of_answers_follow_the_positions() -> None:
    answers, feature = ask(), ("hidden", 3)
    all_of_them = answers.features_batch(range(12), 50)[feature]
    picked = answers.features_batch([7, 2, 7], 60)[feature]
    assert torch.equal(picked[:, :50], all_of_them[[7, 2, 7]])
    assert not picked[:, 50:].any()
    assert torch.equal(answers.features_batch([7, 2], 4)[feature], all_of_them[[7, 2], :4])


def test_the_second_time_nothing_is_computed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = ask()
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed again"))
    second = ask()
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.features is not None
    assert second.features is not None
    np.testing.assert_array_equal(first.features["hidden", 3], second.features["hidden", 3])
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
    from compress.data.encoded import Encoded

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
    monkeypatch.setattr(module, "MAX_FEATURE_BYTES", tokens * tiny.HIDDEN * 2)
    assert ask(layers=(3,)).features is not None
    answers = ask(layers=(2, 3))
    assert answers.features is None
    assert answers.logits.shape == (12, 3)


def test_hidden_states_that_the_disk_has_no_room_for_are_not_kept_and_those_that_are_there_are_read(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    assert ask(layers=(3,)).features is not None
    monkeypatch.setattr(disk, "free_space", lambda path: 1)
    monkeypatch.setattr(disk, "check_space", lambda path, needed, *_: None)
    assert ask(layers=(3,)).features is not None
    assert ask(layers=(2,)).features is None


def test_no_layers_no_hidden_states() -> None:
    assert ask(layers=()).features == {}


def test_a_full_disk_is_told_before_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed"))
    with pytest.raises(ResourceError, match="free"):
        ask()


def test_a_teacher_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def fail(*args: Any) -> None:
        (args[3] / "hidden.npy").write_bytes(b"half")
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
    manifest = artifacts.read_manifest(folder)
    assert manifest is not None
    assert manifest["key"] == folder.name
    assert manifest["features"] == [["hidden", 3]]


def test_queries_and_keys_are_kept_as_the_projections_make_them() -> None:
    teacher, data = tiny.make_model(), tiny.encoded()
    answers = teacher_outputs(teacher, "abc", data, [("query", 2), ("value", 1)], CPU)
    query = next(layer for number, layer in enumerate(encoder_layers(teacher)) if number == 1).query
    seen: list[torch.Tensor] = []
    query.register_forward_hook(lambda module, args, output: seen.append(output))
    batch = data.batch([5, 3])
    torch_forward(teacher)(batch)
    rows = answers.features_batch([5, 3], batch["input_ids"].shape[1])["query", 2]
    mask = torch.from_numpy(batch["attention_mask"]).unsqueeze(-1)
    torch.testing.assert_close(rows, seen[0] * mask, rtol=2e-3, atol=2e-3)


def filled(cache: Path) -> set[str]:
    """The entries that could be read."""
    return {path.name for path in cache.iterdir() if artifacts.read_manifest(path)}


def test_the_least_recently_used_entries_go(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    ask(digest="a")
    (first,) = filled(cache)
    size = sum(path.stat().st_size for path in (cache / first).iterdir())
    ask(digest="b")
    (second,) = filled(cache) - {first}
    for name, when in ((first, 1000), (second, 2000)):
        os.utime(cache / name / artifacts.MANIFEST, (when, when))
    ask(digest="a")  # used again: now the second is the older
    monkeypatch.setattr(cache_files, "BUDGET_BYTES", int(2.5 * size))
    ask(digest="c")
    assert first in filled(cache)
    assert second not in filled(cache)
    assert len(list(cache.iterdir())) == 2


def test_an_entry_in_use_stays(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    ask(digest="a")
    (first,) = filled(cache)
    monkeypatch.setattr(cache_files, "BUDGET_BYTES", 1)
    with locks.locked(cache / first):
        ask(digest="b")
    assert first in filled(cache)
    ask(digest="c")
    assert first not in filled(cache)


def test_what_a_killed_run_left_is_neither_read_nor_kept(cache: Path) -> None:
    for name in (".0badc0de.tmp-4194304", "0badcafe"):  # half written, and half removed
        (cache / name).mkdir(parents=True)
        (cache / name / "logits.npy").write_bytes(b"half")
    ask()
    (name,) = [path.name for path in cache.iterdir()]
    assert filled(cache) == {name}


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "key"])
def test_a_damaged_entry_is_made_again(cache: Path, damage: str) -> None:
    before = ask().logits.copy()
    (folder,) = cache.iterdir()
    path = folder / "logits.npy"
    whole = path.read_bytes()
    if damage == "key":
        files.write_json(folder / artifacts.MANIFEST, {**(artifacts.read_manifest(folder) or {}), "key": "another"})
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-4] if damage == "cut" else whole[:-1] + b"x")
    np.testing.assert_array_equal(ask().logits, before)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("at", ["posix_fallocate", "save", "manifest"])
def test_a_disk_that_fills_up_is_exit_5_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path, at: str) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place, name = {"posix_fallocate": (os, "posix_fallocate"), "save": (np, "save"), "manifest": (files, "write_json")}[at]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(ResourceError, match="cannot be cached in .*No space left") as caught:
            ask()
    assert caught.value.exit_code == 5
    assert "COMPRESS_CACHE" in (caught.value.hint or "")
    assert not list(cache.iterdir())
    assert ask().logits.shape == (12, 3)
