"""Read a model's `config.json`, and its longest input. No torch in this module."""

from __future__ import annotations

from pathlib import Path

from compress.core import files
from compress.core.errors import ModelError
from compress.data.input_spec import Target
from compress.models.config_checks import check_config
from compress.models.family import family_of
from compress.models.published_names import standard_config
from compress.models.sentence_folder import read_sentence_head
from compress.models.sentence_head import EMBEDDING_KEY, head_entry, sentence_head
from compress.models.types import Config

MAX_CONFIG_BYTES = 4 << 20


def read_config(folder: Path) -> Config:
    """Read and check `config.json`: a supported family, no code to run, every dimension within bounds.

    If the folder is an embedder's, the config has its head, too, under `EMBEDDING_KEY`.

    Raises:
        ModelError: a check failed; the message names the key.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no config.json: it is not a model folder", "give a folder in Hugging Face layout")
    try:
        config = files.read_json(path, limit=MAX_CONFIG_BYTES)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    config = standard_config(config, path)
    check_config(config, path)
    config.pop(EMBEDDING_KEY, None)
    head = read_sentence_head(folder)
    return config if head is None else {**config, EMBEDDING_KEY: head_entry(head)}


def longest_input(config: Config, target: Target) -> int:
    """Return the longest input in tokens for what a model predicts: an embedder's folder may say less than its positions allow."""
    head = sentence_head(config) if target == "vector" else None
    return min(max_tokens(config), head.max_length) if head and head.max_length else max_tokens(config)


def serving_length(config: Config, target: Target, of_task: int | None) -> int:
    """Return to how many tokens inputs are cut when a model serves: an embedder's folder says so, other models follow their task."""
    limit = longest_input(config, target)
    return limit if target == "vector" or not of_task else min(of_task, limit)


def max_tokens(config: Config) -> int:
    """Return the longest input in tokens that the position embeddings allow (RoBERTa's start after the padding id)."""
    positions = config.get("max_position_embeddings") or 512
    if not family_of(config["model_type"]).positions_after_padding:
        return positions
    return positions - (1 if config.get("pad_token_id") is None else config["pad_token_id"]) - 1
