"""Weights that must be refused: pickles, damaged files, and configs that describe more weights than there are."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from compress.core.errors import CompressError, ModelError
from compress.models.checkpoint import load_model
from compress.models.weights_file import check_weights
from tests import tiny
from tests.unit.models.folders import refused, write_pruned

Maker = Callable[..., Path]
HUGE = {"hidden_size": 16_384, "num_attention_heads": 1024, "num_hidden_layers": 200, "intermediate_size": 131_072, "vocab_size": 4_000_000}


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the JSON header of a safetensors file, the data unchanged."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1, -1000])
def test_truncated_weights(own_checkpoint: Maker, keep: int) -> None:
    folder = own_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "damaged" in refused(folder).message


def test_weights_with_extra_bytes(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert "damaged" in refused(folder).message


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 0, 1])
def test_header_longer_than_the_file(own_checkpoint: Maker, length: int) -> None:
    folder = own_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    assert "header" in refused(folder).message


@pytest.mark.parametrize(
    "header",
    [b"nonsense", b"[]", b"3", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": 5}}', b'{"a": {"data_offsets": []}}', b"\xff\xfe"],
)
def test_header_that_is_not_json(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(ModelError, match="damaged"):
        check_weights(tmp_path, {})


def test_header_whose_offsets_are_strings(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ModelError, match="damaged"):
        check_weights(tmp_path, {})


def test_header_whose_tensors_overlap(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()

    def overlap(header: dict[str, Any]) -> None:
        names = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
        header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]

    rewrite_header(folder / "model.safetensors", overlap)
    refused(folder)


def test_header_with_an_unknown_type(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    rewrite_header(folder / "model.safetensors", lambda header: header["classifier.bias"].update(dtype="COMPLEX"))
    refused(folder)


def test_header_of_another_shape(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    rewrite_header(folder / "model.safetensors", lambda header: header["classifier.weight"].update(shape=[tiny.HIDDEN, 3]))
    assert "classifier.weight" in refused(folder).message


def test_pickled_weights_only(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refused(folder)
    assert "pickled" in error.message
    assert "pytorch_model.bin" in error.message


def test_no_weights(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in refused(folder).message


def shard(folder: Path) -> dict[str, str]:
    """Split a checkpoint's weights into two files; returns the index's map."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    return {name: file for file, part in halves.items() for name in part}


def test_sharded_weights_load(own_checkpoint: Maker) -> None:
    import torch

    folder = own_checkpoint()
    whole = load_model(folder).state_dict()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard(folder)}), encoding="utf-8")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_model(folder).state_dict().items())


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "absent.safetensors", ""])
def test_shards_outside_the_folder(own_checkpoint: Maker, name: str) -> None:
    folder = own_checkpoint()
    (folder.parent / "secret.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    index = {"weight_map": dict.fromkeys(shard(folder), name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "does not exist" in refused(folder).message


@pytest.mark.parametrize(
    "index",
    [
        "",
        "{}",
        '{"weight_map": []}',
        "[]",
        '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": {}}}',
    ],
)
def test_damaged_shard_index(own_checkpoint: Maker, index: str) -> None:
    folder = own_checkpoint()
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    refused(folder)


@contextmanager
def limited_memory(spare: int) -> Iterator[None]:
    """Let this process map only `spare` more bytes, so that a test that fails does not take the machine with it."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_huge_config_with_small_weights_is_refused(own_checkpoint: Maker) -> None:
    """Every dimension is within its bound, all together they are terabytes."""
    with limited_memory(4 << 30):
        refused(tiny.edit_config(own_checkpoint(), **HUGE | {"num_hidden_layers": 3}))


def test_huge_config_of_a_pruned_model_is_refused(tmp_path: Path) -> None:
    folder = tiny.edit_config(write_pruned(tmp_path / "model"), **HUGE)
    tiny.edit_config(folder, compress={"version": 1, "head_size": 16, "layers": [{"heads": 1, "ffn": 1}] * 200})
    with limited_memory(4 << 30), pytest.raises(CompressError) as caught:
        load_model(folder)
    assert caught.value.exit_code in {4, 5}
