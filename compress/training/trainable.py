"""Which parameters of a model are trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import nn

from compress.data.input_spec import Target
from compress.models.embedder import is_embedder_model
from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.model_shape import count_params
from compress.models.types import TransformersModel


def freeze_embeddings(model: TransformersModel) -> None:
    """Exclude an encoder's embeddings from training."""
    encoder = find_submodule(model, family_of(model.config.model_type).encoder)
    for parameter in getattr(encoder, "embeddings", model.get_input_embeddings()).parameters():
        parameter.requires_grad_(False)


def head_modules(model: TransformersModel, target: Target) -> list[nn.Module]:
    """Return the modules of a model's head, including BERT's pooler; of an embedder what follows the pooling."""
    if is_embedder_model(model):
        return [cast("nn.Module", model.steps)]
    return [find_submodule(model, part) for part in family_of(model.config.model_type).head_parts(target)]


def train_only(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Train these modules of a model and freeze everything else."""
    model.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)


def trained_share(model: nn.Module) -> tuple[int, float]:
    """Return the number of trainable parameters, and their share of all parameters."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trained, trained / count_params(model)
