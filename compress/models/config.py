"""Read a model folder's `config.json` and weights' header without trusting them. No torch in this module."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from compress.core import files
from compress.core.errors import ModelError
from compress.data.input_spec import Target
from compress.models.family import HEAD_CLASSES, SEQUENCE, Family, family_of
from compress.models.shape import ADAPTER_KEY, CONFIG_KEY, EMBEDDING_KEY, RANKS_KEY, ROLES, SHARED_KEY, VERSION, shape_of_config

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GRAPH = "model.onnx"
OPENVINO_GRAPH = "openvino.onnx"
MAX_HEADER = 100 << 20
HARMLESS = {"_name_or_path", "_num_labels", "_attn_implementation_autoset", "_commit_hash"}  # left by older libraries
# Bounds on every dimension, far above any encoder in use, so that a hostile config cannot make us allocate.
BOUNDS = {"hidden": 16_384, "layers": 256, "heads": 1_024, "ffn": 131_072}
MORE_BOUNDS = {  # smallest and largest, where the config has the key
    "vocab_size": (1, 4_000_000),
    "max_position_embeddings": (4, 1_000_000),
    "type_vocab_size": (0, 1_000),
    "embedding_size": (1, 16_384),
    "num_labels": (1, 1_000_000),
}


def is_graph(folder: Path) -> bool:
    """Tell whether a folder is an ONNX artifact."""
    return (folder / GRAPH).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check `config.json`: a known family, no code to run, every dimension within bounds.

    Raises:
        ModelError: anything else; the message names the key.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json: it is not a model folder", "give a folder in Hugging Face layout")
    try:
        config = files.read_json(path, limit=4 << 20)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    code = [key for key in config if key in {"auto_map", "custom_pipelines"} or (key.startswith("_") and key not in HARMLESS)]
    if code:
        raise ModelError(f"{path} has the key '{code[0]}', which can make a loader run code", "remove it if you trust the model")
    family = family_of(config.get("model_type"))
    _check_bounds(config, family, path)
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise ModelError(f"{path} describes a decoder; only encoders are supported")
    names = config.get("id2label")
    if names is not None and not (isinstance(names, dict) and all(str(key).isdecimal() for key in names)):
        raise ModelError(f"{path}: id2label does not map numbers to names")
    _check_pruned(config, family, path)
    return config


def class_names(config: dict[str, Any]) -> list[str]:
    """Return a classifier's class names in the order of its logits (two numbered ones where the config names none)."""
    names = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(config.get("num_labels", 2))}
    return [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]


def unnamed(names: list[str], called: list[str]) -> bool:
    """Tell whether a model's classes are only numbered (LABEL_0, ...), and as many as those that they may be called."""
    return len(names) == len(called) and all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def target_of(config: dict[str, Any]) -> Target | None:
    """Return what a model answers with, from its architecture and problem type; None for a bare encoder.

    Older classifiers record no problem type: one logit is then a value, several are classes.
    """
    names = config.get("architectures") or []
    heads = set(HEAD_CLASSES.values())
    head = next((suffix for name in names for suffix in heads if str(name).endswith(suffix)), None)
    if head != SEQUENCE:
        return next((target for target, suffix in HEAD_CLASSES.items() if suffix == head), None)
    if config.get("problem_type") == "multi_label_classification":
        return "labels"
    return "value" if config.get("problem_type") == "regression" or len(class_names(config)) == 1 else "class"


def agreed_target(config: dict[str, Any], target: Target | None) -> Target | None:
    """Return what a model predicts on a task that predicts `target`; None for a bare encoder.

    It is the model's own target, except for multi-label classifiers saved without a `problem_type` (transformers before
    4.8): their configuration cannot be told from that of a single-label classifier, so that the task decides.
    """
    recorded = target_of(config)
    undecided = recorded == "class" and target == "labels" and not config.get("problem_type")
    return "labels" if undecided else recorded


def max_tokens(config: dict[str, Any]) -> int:
    """Return the longest input that a model's position embeddings allow (RoBERTa's start behind the padding id)."""
    positions = config.get("max_position_embeddings") or 512
    if not family_of(config["model_type"]).positions_after_padding:
        return positions
    return positions - (1 if config.get("pad_token_id") is None else config["pad_token_id"]) - 1


def _check_bounds(config: dict[str, Any], family: Family, path: Path) -> None:
    named = {"hidden": family.hidden_key, "ffn": family.ffn_key}
    if not family.recurrent:
        named |= {"layers": family.layers_key, "heads": family.heads_key}
    for role, key in named.items():
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= BOUNDS[role]:
            raise ModelError(f"{path}: {key} is {value!r}, not a whole number from 1 to {BOUNDS[role]}")
    for key, (low, high) in MORE_BOUNDS.items():
        value = config.get(key)
        needed = key == "vocab_size" or (family.recurrent and key == "embedding_size")
        if (needed or value is not None) and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high):
            raise ModelError(f"{path}: {key} is {value!r}, not a whole number from {low} to {high}")
    padding = config.get("pad_token_id")
    if padding is not None and (not isinstance(padding, int) or isinstance(padding, bool) or not 0 <= padding < config["vocab_size"]):
        raise ModelError(f"{path}: pad_token_id is {padding!r}, not a token's number")
    if config[family.hidden_key] % (2 if family.recurrent else config[family.heads_key]):
        raise ModelError(f"{path}: {family.hidden_key} is not a multiple of {'2' if family.recurrent else family.heads_key}")


def _check_pruned(config: dict[str, Any], family: Family, path: Path) -> None:
    extra = config.get(CONFIG_KEY)
    if extra is None:
        return
    where = f"{path}: the entry '{CONFIG_KEY}'"
    if family.recurrent:
        raise ModelError(f"{where} describes layers, which this model does not have")
    if not isinstance(extra, dict) or extra.get("version") != VERSION:
        raise ModelError(f"{where} is not of version {VERSION}", "it was written by a newer compress: upgrade")
    layers = extra.get("layers")
    if not isinstance(layers, list) or len(layers) != config[family.layers_key]:
        raise ModelError(f"{where} does not describe {config[family.layers_key]} layers")
    for key, value in (("head_size", extra.get("head_size")), *((key, extra.get(key, 1)) for key in (ADAPTER_KEY, EMBEDDING_KEY))):
        _check_size(value, key, where)
    for layer in layers:
        counts = [layer.get(key) for key in ("heads", "ffn")] if isinstance(layer, dict) else []
        if len(counts) != 2 or not all(isinstance(count, int) and 0 <= count <= BOUNDS["ffn"] for count in counts):
            raise ModelError(f"{where} has a malformed layer: {layer!r}")
        ranks = layer.get(RANKS_KEY, {})
        if not isinstance(ranks, dict) or not set(ranks) <= set(ROLES):
            raise ModelError(f"{where} has a layer with malformed ranks: {ranks!r}")
        for role, rank in ranks.items():
            _check_size(rank, f"the rank of {role}", where)
    _check_shared(extra.get(SHARED_KEY, list(range(len(layers)))), layers, where)


def _check_size(value: Any, key: str, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= BOUNDS["hidden"]:
        raise ModelError(f"{where}: {key} is {value!r}, not a whole number from 1 to {BOUNDS['hidden']}")


def _check_shared(owners: Any, layers: list[Any], where: str) -> None:
    """Check that each layer takes the weights of one of its own shape, at or before it, that has weights of its own."""
    known = isinstance(owners, list) and len(owners) == len(layers) and all(type(owner) is int for owner in owners)
    if not known or not all(0 <= owner <= number and owners[owner] == owner for number, owner in enumerate(owners)):
        raise ModelError(f"{where}: {SHARED_KEY} does not name one of its layers for each of {len(layers)}")
    if any(layers[owner] != layer for owner, layer in zip(owners, layers, strict=True)):
        raise ModelError(f"{where}: layers of different shapes cannot share weights")


def check_weights(folder: Path) -> None:
    """Check that the weights are safetensors, and that every file is as long as its header says.

    Raises:
        ModelError: pickled weights only, none at all, or a damaged file.
    """
    paths = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else _shards(folder)
    if not paths:
        pickles = [*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt")]
        if pickles:
            raise ModelError(
                f"{folder} has only pickled weights ({pickles[0].name}), which can run code when loaded",
                "convert them where you trust them: AutoModel.from_pretrained(DIR).save_pretrained(NEW)",
            )
        raise ModelError(f"{folder} has no {WEIGHTS}")
    for path in paths:
        _check_header(path)


def check_count(folder: Path, config: dict[str, Any]) -> None:
    """Check, before anything is allocated, that the files can hold the weights that the config describes.

    Raises:
        ModelError: fewer bytes than weights.
    """
    shape = shape_of_config(config)
    width = shape.embedding[0] if shape.embedding else config.get("embedding_size", shape.hidden)
    described = shape.params() + config["vocab_size"] * width
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if described > held:
        raise ModelError(
            f"{folder}: config.json describes {described:,} weights and the files hold {held:,} bytes",
            "config.json belongs to another model",
        )


def _shards(folder: Path) -> list[Path]:
    if not (folder / INDEX).is_file():
        return []
    try:
        names = sorted(set(files.read_json(folder / INDEX)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{folder / INDEX} is damaged") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder / INDEX} names the file {name!r}, which is not there")
    return [folder / name for name in names]


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ModelError(f"{path} is damaged: its header does not fit the file", "copy or download it again")
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] + 0 for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is damaged: its header is not readable", "copy or download it again") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ModelError(
            f"{path} is damaged: {size} bytes where its header announces {expected}",
            "it was cut short or changed: copy or download it again",
        )
