"""The head of a model: its class, its labels, and the order of its logits."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from compress.core import console
from compress.core.errors import ModelError
from compress.data.input_spec import Target
from compress.models.family import BILSTM, STATIC, Family
from compress.models.pretrained import quiet_transformers
from compress.models.types import Config, TransformersModel

PROBLEM_TYPES: dict[Target, Literal["regression", "single_label_classification", "multi_label_classification"]] = {
    "class": "single_label_classification",
    "labels": "multi_label_classification",
    "value": "regression",
}
INIT_STD = 0.02  # of a new classifier's weights, as transformers initialises BERT


def model_class(family: Family, target: Target) -> Any:
    """Return the class of a family's models that predict a target: transformers' own, our embedder, head for spans, BiLSTM or static model.

    Raises:
        ModelError: a static model for a target that has a prediction for each token; an embedder without layers.
    """
    if target == "vector":
        from compress.models.embedder import embedder_class

        return embedder_class(family)
    name = family.head_class(target)
    if family is STATIC:
        from compress.models.static_model import StaticForSequenceClassification

        if name != StaticForSequenceClassification.__name__:
            raise ModelError(
                "a static model sees a text as a whole and has no predictions for its tokens",
                "it does text classification and regression; for tags and answers take an encoder or a BiLSTM (--student lstm=150)",
            )
        return StaticForSequenceClassification
    if family is BILSTM:
        from compress.models import bilstm

        return getattr(bilstm, name)
    transformers = quiet_transformers()
    if target == "span" and not hasattr(transformers, name):
        from compress.models.span_head import span_class

        return span_class(family)
    return getattr(transformers, name)


def model_labels(model: TransformersModel) -> list[str]:
    """Return the names of a model's logits in their order."""
    names = model.config.id2label or {}
    return [str(names[number]) for number in range(model.config.num_labels)]  # pyright: ignore[reportArgumentType] (keys are numbers)


def label_config(labels: list[str]) -> Config:
    """Return the config entries that name a model's logits."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def has_fixed_logits(recorded: Target | None, target: Target) -> bool:
    """Return whether a model already predicts the target and its logits have fixed names: a value, ends of a span, mentions."""
    return recorded == target and target in ("value", "span", "mentions")


def reorder_classes(linear: nn.Linear, old: list[str], new: list[str]) -> None:
    """Put a classifier's rows into the order of the new labels, in place; initialise them if the labels differ.

    Args:
        linear: one row per class.
        old: names of its rows.
        new: names of the rows that it is to have.
    """
    with torch.no_grad():
        if sorted(old) == sorted(new):
            order = [old.index(label) for label in new]
            linear.weight.copy_(linear.weight[order].clone())
            linear.bias.copy_(linear.bias[order].clone())
        else:
            console.info(f"  the model's head has other labels ({', '.join(old[:6])}): its last linear is initialised again")
            linear.weight.normal_(std=INIT_STD)
            linear.bias.zero_()
