"""Configs that must be refused with one clear message, before anything is allocated or run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import CompressError, ModelError
from compress.models.checkpoint import load_model
from compress.models.config import max_tokens, read_config
from compress.models.config_heads import class_names
from tests import tiny
from tests.unit.models.folders import refused, write_pruned

Maker = Callable[..., Path]
LAYER = {"heads": 2, "ffn": 3}


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


def test_heads_must_divide_the_width(own_checkpoint: Maker) -> None:
    assert "multiple" in refused(tiny.edit_config(own_checkpoint(), num_attention_heads=5)).message


@pytest.mark.parametrize("name", [{"a": 1}, ["x"], None])
def test_names_of_classes_that_are_none(own_checkpoint: Maker, name: Any) -> None:
    assert "no name of a class" in refused(tiny.edit_config(own_checkpoint(), id2label={"0": name, "1": "b", "2": "c"})).message


def test_a_setting_of_another_type_is_refused_when_the_model_is_loaded(own_checkpoint: Maker) -> None:
    with pytest.raises(ModelError, match="use_cache"):
        load_model(tiny.edit_config(own_checkpoint(), use_cache=1e400))


def test_decoders(own_checkpoint: Maker) -> None:
    assert "decoder" in refused(tiny.edit_config(own_checkpoint(), is_decoder=True)).message
    assert "decoder" in refused(tiny.edit_config(own_checkpoint(), is_decoder=None, add_cross_attention=True)).message


@pytest.mark.parametrize("model_type", ["gpt2", "t5", "llama", "brt", "", None, 7])
def test_unknown_architectures(own_checkpoint: Maker, model_type: Any) -> None:
    error = refused(tiny.edit_config(own_checkpoint(), model_type=model_type))
    assert "not supported" in error.message
    assert "bert, roberta" in (error.hint or "")


def test_architecture_that_is_not_a_string(own_checkpoint: Maker) -> None:
    refused(tiny.edit_config(own_checkpoint(), model_type=["bert"]))


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
    refused(write_pruned(tmp_path / "model", **entry))


@pytest.mark.parametrize("head_size", [0, *(size for size in (-8, 10**9, 10**18))])
def test_head_size_out_of_bounds(tmp_path: Path, head_size: int) -> None:
    refused(write_pruned(tmp_path / "model", head_size=head_size))


def test_entry_that_is_not_a_mapping(tmp_path: Path) -> None:
    refused(tiny.edit_config(write_pruned(tmp_path / "model"), compress=[1]))


def test_config_without_a_vocabulary_size(own_checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    from compress.data.input_spec import InputSpec
    from compress.data.presets import resolve
    from compress.data.task import Task
    from compress.models.inputs import encode_for

    folder = tiny.edit_config(own_checkpoint(), vocab_size=None)
    with pytest.raises(ModelError, match="vocab_size"):
        encode_for(folder, Task(resolve(tiny_task)).split("test"), InputSpec(max_length=32))


@pytest.mark.parametrize("pad", ["x", 1.5, -7, 10**9, [1]], ids=str)
def test_padding_id_that_is_not_a_token(own_checkpoint: Maker, pad: Any) -> None:
    folder = tiny.edit_config(own_checkpoint("roberta"), pad_token_id=pad)
    with pytest.raises(ModelError, match="pad_token_id"):
        read_config(folder)


@pytest.mark.parametrize("key", ["vocab_size", "max_position_embeddings"])
def test_tables_without_rows(own_checkpoint: Maker, key: str) -> None:
    with pytest.raises(ModelError, match=key):
        read_config(tiny.edit_config(own_checkpoint(), **{key: 0}))


def test_odd_configs_raise_our_errors_only(own_checkpoint: Maker) -> None:
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
