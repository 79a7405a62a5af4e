"""A uniform view of the transformer layers of every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.core.errors import UsageError
from compress.models.family import BILSTM, Family, family_of
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    import torch
    from torch import nn

GELU = {  # transformers' names, by the approximation of ONNX's Gelu
    **dict.fromkeys(("gelu", "gelu_python"), "none"),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"), "tanh"),
}
PLAIN_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
SWISH = ("silu", "swish")
ACTIVATIONS = {*GELU, *PLAIN_ACTIVATIONS, *SWISH}


@dataclass(frozen=True)
class Layer:
    """One transformer layer and its parts by role. `query`, `key` and `value` are None in a layer without heads."""

    module: nn.Module
    query: nn.Linear | None  # (hidden -> heads * head_size)
    key: nn.Linear | None
    value: nn.Linear | None
    attention_output: nn.Linear  # (heads * head_size -> hidden)
    attention_norm: nn.LayerNorm
    ffn_in: nn.Linear  # (hidden -> ffn)
    ffn_out: nn.Linear  # (ffn -> hidden)
    output_norm: nn.LayerNorm


def find_submodule(module: object, path: str) -> Any:
    """Return the submodule at a dotted path, or None if there is none (a layer without heads has no query)."""
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return None
    return module


def layer_list(model: TransformersModel) -> nn.ModuleList:
    """Return the list of a model's transformer layers, which may be edited in place."""
    family = family_of(model.config.model_type)
    return find_submodule(model, f"{family.encoder}.{family.layers}")


def encoder_layers(model: TransformersModel) -> Iterator[Layer]:
    """Yield the transformer layers from the first to the last; none for a BiLSTM or a static model."""
    family = family_of(model.config.model_type)
    if not family.has_layers:
        return
    parts = [name for name in Layer.__dataclass_fields__ if name != "module"]
    for module in layer_list(model):
        yield Layer(module, **{part: find_submodule(module, getattr(family, part)) for part in parts})


def refuse_without_layers(model: TransformersModel, verb: str) -> None:
    """Refuse a model without transformer layers.

    Raises:
        UsageError: the model is a BiLSTM or a static model.
    """
    family = family_of(model.config.model_type)
    if not family.has_layers:
        title, student = ("BiLSTM", "lstm=N") if family is BILSTM else ("static model", "static=N")
        raise UsageError(
            f"{verb} does not support {title}s: it needs transformer layers with heads and FFN neurons",
            f"train a {title} as a whole (finetune --mode full), or distill a smaller one (--student {student})",
        )


def activation_key(family: Family) -> str:
    """Return the key of `config.json` that names the FFN's activation function."""
    return "activation" if family.model_type == "distilbert" else "hidden_act"


def activation_name(model: TransformersModel) -> str:
    """Return the name of the FFN's activation function in transformers."""
    return getattr(model.config, activation_key(family_of(model.config.model_type)), "gelu")


def ffn_activation(model: TransformersModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the activation function between the two linears of the FFNs."""
    from transformers.activations import ACT2FN

    return ACT2FN[activation_name(model)]
