"""The activation between the logit and the value of a model with one logit: none, or the sigmoid of most cross-encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compress.data.input_spec import Activation
from compress.models.config_heads import target_of
from compress.models.types import Config, TransformersModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

RECORD, OLD_RECORD = "sentence_transformers", "sbert_ce_default_activation_function"  # keys of sentence-transformers
IDENTITY = "torch.nn.modules.linear.Identity"
NAMES: dict[str, Activation] = {"Identity": "none", "Sigmoid": "sigmoid"}


def recorded_activation(config: Config) -> str | None:
    """Return the class name of the activation that sentence-transformers recorded, such as `Sigmoid`; None without one."""
    entry = config.get(RECORD)
    name = (entry.get("activation_fn") if isinstance(entry, dict) else None) or config.get(OLD_RECORD)
    return str(name).rpartition(".")[2].removesuffix("()") if name else None


def value_activation(config: Config) -> Activation:
    """Return the activation that turns a model's one logit into its value; `none` for other models.

    What sentence-transformers recorded decides. Without a record, a model with the `problem_type` regression has none; others get
    the sigmoid that transformers' pipeline and `CrossEncoder` apply.
    """
    if target_of(config) != "value":
        return "none"
    recorded = recorded_activation(config)
    if recorded is not None:
        return NAMES[recorded]
    return "none" if config.get("problem_type") == "regression" else "sigmoid"


def activation_of(model: TransformersModel) -> Activation:
    """Return the activation of a loaded model's value; see `value_activation`."""
    config = model.config.to_dict()
    return value_activation(config | {"architectures": [type(model).__name__]})


def activated(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Return the values of logits, the same shape."""
    return logits.sigmoid() if activation == "sigmoid" else logits


def set_regression(config: PreTrainedConfig) -> None:
    """Let a model's config describe a value without activation, in place: for a new head."""
    config.problem_type = "regression"
    for key in (RECORD, OLD_RECORD):
        if hasattr(config, key):
            delattr(config, key)


def record_no_activation(model: TransformersModel) -> None:
    """Record in a reranker's config, in place, that its value has no activation: without a record `CrossEncoder` applies the sigmoid."""
    if recorded_activation(model.config.to_dict()) is None and activation_of(model) == "none":
        setattr(model.config, RECORD, {"activation_fn": IDENTITY})


def is_reranker(config: Config, manifest: Mapping[str, object] | None) -> bool:
    """Return whether a model scores a query and a passage: its task says so, or without a task what sentence-transformers recorded.

    Args:
        config: from `read_config`.
        manifest: of its folder; None: it has none.
    """
    task = (manifest or {}).get("task")
    if isinstance(task, Mapping):
        return task.get("kind") == "text-ranking"
    return target_of(config) == "value" and recorded_activation(config) is not None


def take_activation(config: PreTrainedConfig, source: PreTrainedConfig) -> None:
    """Let a student's config record the activation of its teacher's, in place: it learns the teacher's logits."""
    set_regression(config)
    config.problem_type = source.problem_type
    for key in (RECORD, OLD_RECORD):
        if hasattr(source, key):
            setattr(config, key, getattr(source, key))
