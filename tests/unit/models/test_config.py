"""Model folders that must be refused with one clear message (exit 4), before anything is allocated or run."""

from __future__ import annotations

import itertools
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
from compress.models.config import class_names, max_tokens, read_config
from compress.models.layout import is_graph
from compress.models.weights_file import check_weights
from tests import tiny

Maker = Callable[..., Path]


def refused(folder: Path) -> ModelError:
    """Load a folder that must be refused; returns the error."""
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert caught.value.exit_code == 4
    assert str(folder) in caught.value.message or "architecture" in caught.value.message
    return caught.value


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the JSON header of a safetensors file, the data unchanged."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_a_sound_folder_is_read(checkpoint: Maker, family: str) -> None:
    config = read_config(checkpoint(family))
    check_weights(checkpoint(family))
    assert config["model_type"] == family
    assert not is_graph(checkpoint(family))
    assert max_tokens(config) == tiny.POSITIONS


def test_missing_config(tmp_path: Path) -> None:
    assert "no config.json" in refused(tmp_path).message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"bert"', "\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe{}", "[" * 100_000])
def test_config_that_is_no_json_object(own_checkpoint: Maker, text: str | bytes) -> None:
    folder = own_checkpoint()
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "config.json" in refused(folder).message


@pytest.mark.parametrize("key", ["auto_map", "custom_pipelines", "_attn_implementation_internal", "_experts_implementation", "_whatever"])
def test_config_keys_that_run_code(own_checkpoint: Maker, key: str) -> None:
    folder = tiny.edit_config(own_checkpoint(), **{key: {"AutoModel": "evil.Model"}})
    assert f"'{key}'" in refused(folder).message


def test_the_name_key_of_old_configs_is_harmless(own_checkpoint: Maker) -> None:
    load_model(tiny.edit_config(own_checkpoint(), _name_or_path="bert-base-uncased"))


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
@pytest.mark.parametrize("value", [10**9, 0, -1, 3.5, "32", True, None, [32]])
def test_dimensions_out_of_bounds(own_checkpoint: Maker, key: str, value: Any) -> None:
    assert key in refused(tiny.edit_config(own_checkpoint(), **{key: value})).message


@pytest.mark.parametrize(("key", "value"), [("dim", 10**9), ("n_layers", 10**6), ("n_heads", 0), ("hidden_dim", "64")])
def test_dimensions_by_the_names_of_distilbert(own_checkpoint: Maker, key: str, value: Any) -> None:
    assert key in refused(tiny.edit_config(own_checkpoint("distilbert"), **{key: value})).message


@pytest.mark.parametrize("key", ["vocab_size", "max_position_embeddings", "type_vocab_size", "embedding_size"])
@pytest.mark.parametrize("value", [10**12, -1, 2.5, "7"])
def test_other_dimensions_out_of_bounds(own_checkpoint: Maker, key: str, value: Any) -> None:
    assert key in refused(tiny.edit_config(own_checkpoint(), **{key: value})).message


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": {"10": "k", "2": "c", "0": "a"}}, ["a", "c", "k"]),
        ({"id2label": {0: 5, 1: "b"}}, ["5", "b"]),
        ({}, ["LABEL_0", "LABEL_1"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
    ids=str,
)
def test_class_names_come_in_the_order_of_the_logits(config: dict[str, Any], expected: list[str]) -> None:
    assert class_names(config) == expected


def test_heads_must_divide_the_width(own_checkpoint: Maker) -> None:
    assert "multiple" in refused(tiny.edit_config(own_checkpoint(), num_attention_heads=5)).message


def test_decoders(own_checkpoint: Maker) -> None:
    assert "decoder" in refused(tiny.edit_config(own_checkpoint(), is_decoder=True)).message
    assert "decoder" in refused(tiny.edit_config(own_checkpoint(), is_decoder=None, add_cross_attention=True)).message


@pytest.mark.parametrize("model_type", ["gpt2", "t5", "llama", "brt", "", None, 7])
def test_unknown_architectures(own_checkpoint: Maker, model_type: Any) -> None:
    error = refused(tiny.edit_config(own_checkpoint(), model_type=model_type))
    assert "not supported" in error.message
    assert "bert, roberta" in (error.hint or "")


def test_architecture_that_is_no_word(own_checkpoint: Maker) -> None:
    refused(tiny.edit_config(own_checkpoint(), model_type=["bert"]))


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1, -1000])
def test_truncated_weights(own_checkpoint: Maker, keep: int) -> None:
    folder = own_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "damaged" in refused(folder).message


def test_weights_with_bytes_added(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert "damaged" in refused(folder).message


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 0, 1])
def test_header_that_claims_what_is_not_there(own_checkpoint: Maker, length: int) -> None:
    folder = own_checkpoint()
    weights = folder / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    assert "header" in refused(folder).message


@pytest.mark.parametrize(
    "header",
    [b"nonsense", b"[]", b"3", b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": 5}}', b'{"a": {"data_offsets": []}}', b"\xff\xfe"],
)
def test_header_that_is_no_header(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(ModelError, match="damaged"):
        check_weights(tmp_path)


def test_header_whose_offsets_are_words(tmp_path: Path) -> None:
    header = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ModelError, match="damaged"):
        check_weights(tmp_path)


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(own_checkpoint: Maker, value: float) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = load_file(folder / "model.safetensors")
    state["bert.encoder.layer.1.output.dense.weight"][3, 4] = value
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    error = refused(folder)
    assert "not finite" in error.message
    assert "layer.1.output.dense.weight" in error.message


def test_missing_tensor_is_named(own_checkpoint: Maker) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = load_file(folder / "model.safetensors")
    del state["bert.encoder.layer.0.attention.self.query.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert "query.weight" in refused(folder).message


def test_weights_of_another_width(own_checkpoint: Maker) -> None:
    refused(tiny.edit_config(own_checkpoint(), intermediate_size=tiny.FFN * 2))


def pruned(folder: Path, **entry: Any) -> Path:
    """Write a pruned checkpoint, some fields of its config's entry replaced."""
    from compress.models.checkpoint import save_model
    from compress.prune.search import Kept
    from compress.prune.surgery import slice_model

    folder.mkdir()
    tiny.write_tokenizer(folder)
    model = tiny.make_model()
    slice_model(model, [Kept([0, 2], [1, 2, 3])] * tiny.LAYERS)
    save_model(model, folder, folder)
    made = json.loads((folder / "config.json").read_text(encoding="utf-8"))["compress"]
    return tiny.edit_config(folder, compress=made | entry)


LAYER = {"heads": 2, "ffn": 3}


@pytest.mark.parametrize(
    "entry",
    [
        {"version": 2},
        {"version": None},
        {"layers": []},
        {"layers": [LAYER] * 2},
        {"layers": [LAYER, LAYER, 5]},
        {"layers": [LAYER, LAYER, {"heads": 2}]},
        {"layers": [LAYER, LAYER, {"heads": -1, "ffn": 3}]},
        {"layers": [LAYER, LAYER, {"heads": 2, "ffn": 10**9}]},
        {"layers": [LAYER, LAYER, {"heads": 2.0, "ffn": 3}]},
        {"layers": [LAYER, LAYER, {"heads": 3, "ffn": 3}]},
        {"head_size": None},
        {"head_size": "8"},
        {"head_size": 16},
    ],
    ids=str,
)
def test_malformed_entry_of_a_pruned_model(tmp_path: Path, entry: dict[str, Any]) -> None:
    refused(pruned(tmp_path / "model", **entry))


@pytest.mark.parametrize("head_size", [0, *(size for size in (-8, 10**9, 10**18))])
def test_head_size_out_of_bounds(tmp_path: Path, head_size: int) -> None:
    refused(pruned(tmp_path / "model", head_size=head_size))


def test_entry_of_a_pruned_model_that_is_no_mapping(tmp_path: Path) -> None:
    refused(tiny.edit_config(pruned(tmp_path / "model"), compress=[1]))


def test_pruned_weights_of_other_shapes(tmp_path: Path) -> None:
    folder = pruned(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["compress"]["layers"][0]["ffn"] = 4
    tiny.edit_config(folder, compress=config["compress"])
    assert "do not fit" in refused(folder).message


def test_pruned_weights_that_lack_a_tensor(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = pruned(tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    del state["classifier.bias"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert "do not fit" in refused(folder).message


def test_config_without_a_vocabulary_size(own_checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    from compress.data import resolve
    from compress.data.input_spec import InputSpec
    from compress.data.task import Task
    from compress.models.inputs import encode_for

    folder = tiny.edit_config(own_checkpoint(), vocab_size=None)
    with pytest.raises(ModelError, match="vocab_size"):
        encode_for(folder, Task(resolve(tiny_task)).split("test"), InputSpec(max_length=32))


@pytest.mark.parametrize("pad", ["x", 1.5, -7, 10**9, [1]], ids=str)
def test_padding_id_that_is_no_token(own_checkpoint: Maker, pad: Any) -> None:
    folder = tiny.edit_config(own_checkpoint("roberta"), pad_token_id=pad)
    with pytest.raises(ModelError, match="pad_token_id"):
        read_config(folder)


@pytest.mark.parametrize("key", ["vocab_size", "max_position_embeddings"])
def test_tables_without_rows(own_checkpoint: Maker, key: str) -> None:
    with pytest.raises(ModelError, match=key):
        read_config(tiny.edit_config(own_checkpoint(), **{key: 0}))


def test_unknown_activation(own_checkpoint: Maker) -> None:
    refused(tiny.edit_config(own_checkpoint(), hidden_act="nonsense"))


def test_unknown_activation_of_a_pruned_model(tmp_path: Path) -> None:
    refused(tiny.edit_config(pruned(tmp_path / "model"), hidden_act="nonsense"))


HUGE = {"hidden_size": 16_384, "num_attention_heads": 1024, "num_hidden_layers": 200, "intermediate_size": 131_072, "vocab_size": 4_000_000}


@contextmanager
def limited_memory(spare: int) -> Iterator[None]:
    """Let this process map only `spare` more bytes, so that a test that fails does not take the machine with it."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_huge_config_beside_small_weights_is_refused(own_checkpoint: Maker) -> None:
    """Every dimension is within its bound, all together they are terabytes."""
    with limited_memory(4 << 30):
        refused(tiny.edit_config(own_checkpoint(), **HUGE | {"num_hidden_layers": 3}))


def test_huge_config_of_a_pruned_model_is_refused(tmp_path: Path) -> None:
    folder = tiny.edit_config(pruned(tmp_path / "model"), **HUGE)
    tiny.edit_config(folder, compress={"version": 1, "head_size": 16, "layers": [{"heads": 1, "ffn": 1}] * 200})
    with limited_memory(4 << 30), pytest.raises(CompressError) as caught:
        load_model(folder)
    assert caught.value.exit_code in {4, 5}


def test_odd_configs_are_typed_errors(own_checkpoint: Maker) -> None:
    """Replace each value of a config by odd ones: it is read, or refused with a typed error."""
    folder = own_checkpoint()
    original = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    crashes = []
    for key, value in itertools.product(original, [None, True, -1, 0, 1.5, "x", "", [], {}, [1], {"a": 1}]):
        (folder / "config.json").write_text(json.dumps(original | {key: value}), encoding="utf-8")
        try:
            config = read_config(folder)
            max_tokens(config)
            class_names(config)
        except CompressError:
            continue
        except Exception as error:
            crashes.append((key, value, repr(error)))
    assert not crashes
