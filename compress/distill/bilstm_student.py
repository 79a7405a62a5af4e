"""A BiLSTM student whose word embeddings come from its teacher (Tang et al. 2019, arXiv 1903.12136)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from compress.models.config import max_tokens
from compress.models.embedder import embedder_class, head_without_layers, is_embedder_model
from compress.models.family import BILSTM, family_of
from compress.models.low_rank import word_embeddings
from compress.models.sentence_head import EMBEDDING_KEY
from compress.models.shape import LstmShape
from compress.models.types import Config, TransformersModel

if TYPE_CHECKING:
    from compress.models.bilstm import BiLstmConfig

TINY = 1e-12


def create_bilstm(teacher: TransformersModel, lstm: LstmShape, init: str) -> TransformersModel:
    """Return a BiLSTM with the teacher's vocabulary, labels and maximum length.

    Args:
        teacher: a model with its head, of any family, which does not change.
        lstm: the sizes.
        init: `auto` initialises the word embeddings from the teacher's, `random` does not; everything else is random.
    """
    from compress.models import bilstm

    source = teacher.config
    config = bilstm.BiLstmConfig(
        vocab_size=source.vocab_size,
        embedding_size=lstm.embedding,
        hidden_size=2 * lstm.units,
        intermediate_size=lstm.ffn,
        max_position_embeddings=max_tokens(source.to_dict()),
        **inherited_entries(teacher),
    )
    student = _with_head(config, teacher).eval()
    if init == "auto":
        with torch.no_grad():
            components = principal_components(word_embeddings(teacher)(torch.arange(source.vocab_size)), lstm.embedding)
            word_embeddings(student).weight[:, : components.shape[1]] = components  # pyright: ignore[reportIndexIssue]
    return student


def _with_head(config: BiLstmConfig, teacher: TransformersModel) -> TransformersModel:
    """Return a random BiLSTM with its teacher's head; an embedder takes the mean over tokens."""
    from compress.models import bilstm

    if is_embedder_model(teacher):
        setattr(config, EMBEDDING_KEY, head_without_layers(teacher, BILSTM, config.intermediate_size).as_json())
        return cast("TransformersModel", embedder_class(BILSTM)(config))
    head = type(teacher).__name__.removeprefix(family_of(teacher.config.model_type).prefix)
    return getattr(bilstm, BILSTM.prefix + head)(config)


def inherited_entries(teacher: TransformersModel) -> Config:
    """Return the entries of a teacher's config that a student with its tokenizer and its logits has as well."""
    return {name: getattr(teacher.config, name) for name in ("pad_token_id", "id2label", "label2id", "problem_type")}


def principal_components(table: torch.Tensor, width: int) -> torch.Tensor:
    """Return the first principal components of an embedding table, scaled to a mean square of one like random embeddings.

    An encoder's LayerNorm scales up its small embeddings; the gates of an LSTM need them at this scale.

    Args:
        table: (tokens, table width).
        width: maximum number of components.

    Returns:
        (tokens, the smaller of the two widths) float32.
    """
    centred = table.double() - table.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    components = centred @ directions.flip(1)[:, :width]
    return (components / components.square().mean().sqrt().clamp_min(TINY)).float()
