"""A uniform view of the transformer layers of every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.core.errors import UsageError
from compress.models.family import BILSTM, family_of
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
ActivationFunction = Callable[["torch.Tensor"], "torch.Tensor"]
PARTS = (
    "query", "key", "value", "attention_output", "attention_norm", "ffn_in", "ffn_gate", "ffn_out", "output_norm",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One transformer layer and its parts by role. `query`, `key` and `value` are None in a layer without heads.

    A sublayer adds to the residual stream x. Its norm follows the sum, `norm(x + f(x))`, or with `norms_first` it precedes the sublayer,
    `x + f(norm(x))`. Code that runs or fits sublayers uses the methods, which are right for both.
    """

    module: nn.Module
    query: nn.Linear | None  # (hidden -> heads * head_size)
    key: nn.Linear | None
    value: nn.Linear | None
    attention_output: nn.Linear  # (heads * head_size -> hidden)
    attention_norm: nn.LayerNorm  # an `nn.Identity` in the first layer of ModernBERT
    ffn_in: nn.Linear  # (hidden -> ffn)
    ffn_gate: nn.Linear | None  # (hidden -> ffn): its activation multiplies the output of `ffn_in`
    ffn_out: nn.Linear  # (ffn -> hidden)
    output_norm: nn.LayerNorm
    norms_first: bool = False
    position_projections: tuple[nn.Linear, ...] = ()  # (hidden -> heads * head_size), of relative positions (DeBERTa-v2)

    @property
    def norms(self) -> list[nn.LayerNorm]:
        """Its norms, in the order in which they run."""
        norms: list[nn.Module] = [self.attention_norm, self.output_norm]
        return [norm for norm in norms if not is_identity(norm)]  # pyright: ignore[reportReturnType]

    @property
    def kind(self) -> str:
        """What tells layers apart that get different masks and rotations: `full_attention`, `sliding_attention`, or nothing."""
        return getattr(self.module, "attention_type", "")

    def after_attention(self, total: torch.Tensor) -> torch.Tensor:
        """Return the residual stream after the sum of the attention sublayer, the same shape."""
        return total if self.norms_first else self.attention_norm(total)

    def ffn_hidden(self, states: torch.Tensor, activation: ActivationFunction) -> torch.Tensor:
        """Return the input of `ffn_out`, (..., ffn), for the residual stream before the FFN, (..., hidden)."""
        states = self.output_norm(states) if self.norms_first else states
        inner = self.ffn_in(states)
        return activation(inner) if self.ffn_gate is None else activation(self.ffn_gate(states)) * inner

    def after_ffn(self, total: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for the sum of its FFN sublayer, the same shape."""
        return total if self.norms_first else self.output_norm(total)


def is_identity(module: object) -> bool:
    """Return whether a module computes nothing."""
    return type(module).__name__ == "Identity"


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
    for module in layer_list(model):
        parts: dict[str, Any] = {part: find_submodule(module, path) if (path := getattr(family, part)) else None for part in PARTS}
        more = (find_submodule(module, path) for path in family.position_projections)
        projections = tuple(linear for linear in more if linear is not None)
        yield Layer(module, **parts, norms_first=family.norms_first, position_projections=projections)


def last_norm(model: TransformersModel) -> nn.LayerNorm:
    """Return the norm that computes the last hidden states."""
    family = family_of(model.config.model_type)
    if family.final_norm:
        return find_submodule(model, f"{family.encoder}.{family.final_norm}")
    return list(encoder_layers(model))[-1].output_norm


def repeated_kinds(kinds: Sequence[str], count: int) -> list[str]:
    """Return the kinds of `count` layers in the order of a model's: its first ones, and after its last one from the start again."""
    return [kinds[number % len(kinds)] for number in range(count)]


def reads_every_token(config: Any) -> bool:
    """Return whether the head for whole texts reads every token, and not the first one only: by the mean of states or of logits."""
    return family_of(config.model_type).head in ("modernbert", "eurobert") and config.classifier_pooling in ("mean", "late")


def pools_logits(config: Any) -> bool:
    """Return whether a whole text's logits are the mean of those of its tokens (EuroBERT)."""
    return family_of(config.model_type).head == "eurobert" and config.classifier_pooling == "late"


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


def activation_name(model: TransformersModel) -> str:
    """Return the name of the FFN's activation function in transformers."""
    return getattr(model.config, family_of(model.config.model_type).activation_key, "gelu")


def ffn_activation(model: TransformersModel) -> ActivationFunction:
    """Return the activation function of the FFNs."""
    from transformers.activations import ACT2FN

    return ACT2FN[activation_name(model)]
