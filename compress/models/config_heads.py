"""What a `config.json` says about a model's head: what it predicts, and its class names. No torch in this module."""

from __future__ import annotations

import re

from compress.data.input_spec import Target
from compress.data.mentions import TOKEN_NAMES
from compress.models.family import HEAD_CLASSES, SEQUENCE
from compress.models.sentence_head import is_embedder
from compress.models.types import Config


def class_names(config: Config) -> list[str]:
    """Return the names of a classifier's logits in their order; LABEL_0, LABEL_1, … if the config has none."""
    names = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(config.get("num_labels", 2))}
    return [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]


def only_numbered(names: list[str], candidates: list[str]) -> bool:
    """Return whether a model's classes have default names (LABEL_0, …) only, one for each of the candidate names."""
    return len(names) == len(candidates) and all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def target_of(config: Config) -> Target | None:
    """Return what a model predicts, from its architecture and problem type; None for an encoder without a head.

    A sequence classifier without a `problem_type` predicts a value if it has one logit, else one class. A token classifier whose labels
    are `other` and `antecedent` compares mentions.
    """
    names = config.get("architectures") or []
    heads = set(HEAD_CLASSES.values())
    head = next((suffix for name in names for suffix in heads if str(name).endswith(suffix)), None)
    if head is None and is_embedder(config):
        return "vector"
    if head == HEAD_CLASSES["mentions"] and class_names(config) == TOKEN_NAMES:
        return "mentions"
    if head != SEQUENCE:
        return next((target for target, suffix in HEAD_CLASSES.items() if suffix == head), None)
    if config.get("problem_type") == "multi_label_classification":
        return "labels"
    return "value" if config.get("problem_type") == "regression" or len(class_names(config)) == 1 else "class"


def agreed_target(config: Config, target: Target | None) -> Target | None:
    """Return what a model predicts on a task that predicts `target`; None for an encoder without a head.

    This is the model's own target, with two exceptions. transformers before 4.8 saved multi-label classifiers without a
    `problem_type`. Their config looks like a single-label classifier's, so the task decides. And an embedder is a pre-trained encoder for
    every task that does not ask for vectors.
    """
    recorded = target_of(config)
    if recorded == "vector" and target not in (None, "vector"):
        return None
    undecided = recorded == "class" and target == "labels" and not config.get("problem_type")
    return "labels" if undecided else recorded
