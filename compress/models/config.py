"""Read a model's `config.json`: its family, what it predicts, its class names and its longest input. No torch in this module."""

from __future__ import annotations

import re
from pathlib import Path

from compress.core import files
from compress.core.errors import ModelError
from compress.data.input_spec import Target
from compress.models.config_checks import check_config
from compress.models.family import HEAD_CLASSES, SEQUENCE, family_of
from compress.models.types import Config

MAX_CONFIG_BYTES = 4 << 20


def read_config(folder: Path) -> Config:
    """Read and check `config.json`: a supported family, no code to run, every dimension within bounds.

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
    check_config(config, path)
    return config


def class_names(config: Config) -> list[str]:
    """Return the names of a classifier's logits in their order; LABEL_0, LABEL_1, … if the config has none."""
    names = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(config.get("num_labels", 2))}
    return [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]


def only_numbered(names: list[str], candidates: list[str]) -> bool:
    """Return whether a model's classes have default names (LABEL_0, …) only, one for each of the candidate names."""
    return len(names) == len(candidates) and all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def target_of(config: Config) -> Target | None:
    """Return what a model predicts, from its architecture and problem type; None for an encoder without a head.

    A sequence classifier without a `problem_type` predicts a value if it has one logit, else one class.
    """
    names = config.get("architectures") or []
    heads = set(HEAD_CLASSES.values())
    head = next((suffix for name in names for suffix in heads if str(name).endswith(suffix)), None)
    if head != SEQUENCE:
        return next((target for target, suffix in HEAD_CLASSES.items() if suffix == head), None)
    if config.get("problem_type") == "multi_label_classification":
        return "labels"
    return "value" if config.get("problem_type") == "regression" or len(class_names(config)) == 1 else "class"


def agreed_target(config: Config, target: Target | None) -> Target | None:
    """Return what a model predicts on a task that predicts `target`; None for an encoder without a head.

    This is the model's own target, with one exception: transformers before 4.8 saved multi-label classifiers without a
    `problem_type`. Their config looks like a single-label classifier's, so the task decides.
    """
    recorded = target_of(config)
    undecided = recorded == "class" and target == "labels" and not config.get("problem_type")
    return "labels" if undecided else recorded


def max_tokens(config: Config) -> int:
    """Return the longest input in tokens that the position embeddings allow (RoBERTa's start after the padding id)."""
    positions = config.get("max_position_embeddings") or 512
    if not family_of(config["model_type"]).positions_after_padding:
        return positions
    return positions - (1 if config.get("pad_token_id") is None else config["pad_token_id"]) - 1
