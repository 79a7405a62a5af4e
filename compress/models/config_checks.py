"""Checks of an untrusted `config.json`: no code to run, and every size within bounds. No torch in this module."""

from __future__ import annotations

from pathlib import Path

from compress.core.errors import ModelError
from compress.models.config_keys import check_keys
from compress.models.family import BILSTM, STATIC, Family, family_of
from compress.models.layer_groups import GROUPS, count_layers
from compress.models.published_names import CODE, names_own_classes
from compress.models.shape import ADAPTER_KEY, BIASES_KEY, CONFIG_KEY, EMBEDDING_RANK_KEY, RANKS_KEY, ROLES, SHARED_KEY, TOKENS_KEY, VERSION
from compress.models.types import Config

HARMLESS = {"_name_or_path", "_num_labels", "_attn_implementation_autoset", "_commit_hash"}  # written by older libraries
# Upper bounds far above any encoder in use, so that a hostile config cannot make us allocate.
BOUNDS = {"hidden": 16_384, "layers": 256, "heads": 1_024, "ffn": 131_072}
MORE_BOUNDS = {  # smallest and largest value, if the config has the key
    "vocab_size": (1, 4_000_000),
    "max_position_embeddings": (4, 1_000_000),
    "type_vocab_size": (0, 1_000),
    "task_type_vocab_size": (1, 1_000),
    "embedding_size": (1, 16_384),
    "bigram_size": (1, 16_384),
    "bigram_buckets": (1, 1 << 24),
    "texts": (1, 2),
    "num_labels": (1, 1_000_000),
}
SIZES_OF_TABLES = {"max_position_embeddings", "type_vocab_size"}  # never null: transformers allocates by them
REQUIRED = {  # sizes that a config must have, besides those of the hidden states and of the FFN
    BILSTM.model_type: ("vocab_size", "embedding_size"),
    STATIC.model_type: ("vocab_size", "embedding_size", "bigram_size", "bigram_buckets", "texts"),
}


def check_config(config: object, path: Path) -> None:
    """Check the contents of a `config.json`.

    Args:
        config: the parsed document.
        path: of the file, for messages.

    Raises:
        ModelError: a check failed; the message names the key.
    """
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    code = [key for key in config if key in {CODE, "custom_pipelines"} or (key.startswith("_") and key not in HARMLESS)]
    if CODE in code and names_own_classes(config):
        code.remove(CODE)
    if code:
        raise ModelError(f"{path} has the key '{code[0]}', which can make a loader run code", "remove it if you trust the model")
    family = family_of(config.get("model_type"))
    _check_bounds(config, family, path)
    names = config.get("id2label")
    if names is not None and not (isinstance(names, dict) and all(str(key).isdecimal() for key in names)):
        raise ModelError(f"{path}: id2label does not map numbers to names")
    strange = [name for name in (names or {}).values() if not isinstance(name, str | int | float)]
    if strange:
        raise ModelError(f"{path}: id2label has {str(strange[0])[:60]}, which is no name of a class")
    check_keys(config, family, path)
    if config.get(CONFIG_KEY) is not None:
        _check_entry(config[CONFIG_KEY], config, family, f"{path}: the entry '{CONFIG_KEY}'")


def _check_bounds(config: Config, family: Family, path: Path) -> None:
    """Check every size that transformers allocates by."""
    keys = {"hidden": family.hidden_key, "ffn": family.ffn_key}
    if family.has_layers:
        keys |= {"heads": family.heads_key} | ({} if family.grouped else {"layers": family.layers_key})
    for role, key in keys.items():
        if not _is_count(config.get(key), 1, BOUNDS[role]):
            raise ModelError(f"{path}: {key} is {config.get(key)!r}, not a whole number from 1 to {BOUNDS[role]}")
    if family.grouped:
        _check_groups(config, family, path)
    for key, (low, high) in MORE_BOUNDS.items():
        required = key in REQUIRED.get(family.model_type, ("vocab_size",))
        if (required or key in SIZES_OF_TABLES & set(config) or config.get(key) is not None) and not _is_count(config.get(key), low, high):
            raise ModelError(f"{path}: {key} is {config.get(key)!r}, not a whole number from {low} to {high}")
    padding = config.get("pad_token_id")
    if padding is not None and not _is_count(padding, 0, config["vocab_size"] - 1):
        raise ModelError(f"{path}: pad_token_id is {padding!r}, not a token id")
    divisor = config[family.heads_key] if family.has_layers else 2 if family is BILSTM else 1
    if config[family.hidden_key] % divisor:
        raise ModelError(f"{path}: {family.hidden_key} is not a multiple of {family.heads_key if family.has_layers else divisor}")
    if family is STATIC and config["texts"] == 2 and not _is_count(config.get("sep_token_id"), 0, config["vocab_size"] - 1):
        raise ModelError(f"{path}: sep_token_id is {config.get('sep_token_id')!r}, not the id of the token between two texts")


def _check_groups(config: Config, family: Family, path: Path) -> None:
    """Check how many groups of layers there are, how many layers each has, and how often they are used."""
    for key, default in GROUPS.items():
        value = config.get(key, default)
        if not _is_count(value, 1, BOUNDS["layers"]):
            raise ModelError(f"{path}: {key} is {value!r}, not a whole number from 1 to {BOUNDS['layers']}")
    if count_layers(config, family) > BOUNDS["layers"]:
        raise ModelError(f"{path}: num_hidden_layers groups of inner_group_num layers are more than {BOUNDS['layers']} layers")
    if config.get("num_hidden_groups", 1) > config["num_hidden_layers"]:
        raise ModelError(f"{path}: num_hidden_groups is more than num_hidden_layers, so that some groups are never used")


def _check_entry(entry: object, config: Config, family: Family, where: str) -> None:
    """Check our own entry, from which compressed models are rebuilt; see `compress.models.shape.config_entry`."""
    if not family.has_layers:
        raise ModelError(f"{where} describes layers, which this model does not have")
    if not isinstance(entry, dict) or entry.get("version") != VERSION:
        raise ModelError(f"{where} is not of version {VERSION}", "it was written by a newer compress: upgrade")
    layers = entry.get("layers")
    count = count_layers(config, family)
    if not isinstance(layers, list) or len(layers) != count:
        raise ModelError(f"{where} does not describe {count} layers")
    for key, value in (("head_size", entry.get("head_size")), *((key, entry.get(key, 1)) for key in (ADAPTER_KEY, EMBEDDING_RANK_KEY))):
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
        share = layer.get(TOKENS_KEY, 1.0)
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share <= 1:
            raise ModelError(f"{where}: a layer keeps {share!r} of the tokens, not a share above 0, up to 1")
    if entry.get(BIASES_KEY, True) is not True or (BIASES_KEY in entry and not family.never_biased):
        raise ModelError(f"{where}: {BIASES_KEY} is {entry[BIASES_KEY]!r}, which a {family.model_type} cannot have")
    _check_shared(entry.get(SHARED_KEY, list(range(len(layers)))), layers, where)


def _is_count(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_size(value: object, key: str, where: str) -> None:
    if not _is_count(value, 1, BOUNDS["hidden"]):
        raise ModelError(f"{where}: {key} is {value!r}, not a whole number from 1 to {BOUNDS['hidden']}")


def _check_shared(owners: object, layers: list[object], where: str) -> None:
    """Check that each layer uses the weights of itself or of an earlier layer of the same shape that has its own."""
    valid = isinstance(owners, list) and len(owners) == len(layers) and all(type(owner) is int for owner in owners)
    if not valid or not all(0 <= owner <= number and owners[owner] == owner for number, owner in enumerate(owners)):  # pyright: ignore
        raise ModelError(f"{where}: {SHARED_KEY} does not name one of its layers for each of {len(layers)}")
    sizes = [{key: value for key, value in layer.items() if key != TOKENS_KEY} for layer in layers if isinstance(layer, dict)]
    if any(sizes[owner] != layer for owner, layer in zip(owners, sizes, strict=True)):  # pyright: ignore
        raise ModelError(f"{where}: layers of different shapes cannot share weights")
