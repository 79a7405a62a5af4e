"""Heads for spans in families for which transformers has none: its own generic head on its own encoder."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from transformers.modeling_layers import GenericForQuestionAnswering

from compress.models.family import Family
from compress.models.pretrained import quiet_transformers


class SpanHead(GenericForQuestionAnswering):
    """The generic head, for encoders of any names: `span_class` names its subclasses by family."""

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return getattr(self, self.base_model_prefix).get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        getattr(self, self.base_model_prefix).set_input_embeddings(value)


@cache
def span_class(family: Family) -> Any:
    """Return the class of a family's models that predict spans, such as `NomicBertForQuestionAnswering`."""
    base = getattr(quiet_transformers(), f"{family.prefix}PreTrainedModel")
    return type(family.head_class("span"), (SpanHead, base), {"base_model_prefix": family.encoder, "__module__": __name__})
