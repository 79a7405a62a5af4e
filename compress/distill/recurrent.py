"""A student that is a BiLSTM: its sizes from a SPEC, and its words from the teacher (Tang et al. 2019, arXiv 1903.12136)."""

from __future__ import annotations

from typing import Any

import torch

from compress.core.errors import UsageError
from compress.models.config import max_tokens
from compress.models.family import BILSTM, family_of
from compress.models.low_rank import word_embeddings
from compress.models.shape import LstmShape


def check_init(init: str) -> None:
    """Check that a BiLSTM can start so.

    Raises:
        UsageError: with layers, or parts of them.
    """
    if init in ("layers", "importance"):
        raise UsageError(
            f"init {init} copies layers, and a BiLSTM has none", "use --init auto, which takes the teacher's word embeddings, or random"
        )


def make_bilstm(teacher: Any, lstm: LstmShape, init: str) -> Any:
    """Return a BiLSTM with the teacher's vocabulary, labels and longest input; with init `auto` its words start from the teacher's.

    Args:
        teacher: a model with its head, of any family; it is left as it is.
        lstm: the sizes.
        init: `auto` or `random`; all but the words is random.

    Raises:
        UsageError: as `check_init` raises it.
    """
    from compress.models import bilstm

    check_init(init)
    known = teacher.config
    config = bilstm.BiLstmConfig(
        vocab_size=known.vocab_size,
        embedding_size=lstm.embedding,
        hidden_size=2 * lstm.units,
        intermediate_size=lstm.ffn,
        max_position_embeddings=max_tokens(known.to_dict()),
        pad_token_id=known.pad_token_id,
        id2label=known.id2label,
        label2id=known.label2id,
        problem_type=known.problem_type,
    )
    head = type(teacher).__name__.removeprefix(family_of(known.model_type).prefix)
    student = getattr(bilstm, BILSTM.prefix + head)(config).eval()
    if init == "auto":
        with torch.no_grad():
            words = principal_words(word_embeddings(teacher)(torch.arange(known.vocab_size)), lstm.embedding)
            word_embeddings(student).weight[:, : words.shape[1]] = words
    return student


def principal_words(table: torch.Tensor, width: int) -> torch.Tensor:
    """Return a table's first principal components, scaled to a mean square of one, as random embeddings have it.

    What an encoder's LayerNorm would make of the words' small numbers an LSTM's gates have to be given.

    Args:
        table: (words, width of its own).
        width: most components wanted.

    Returns:
        (words, the smaller of the two widths) float32.
    """
    centred = table.double() - table.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    found = centred @ directions.flip(1)[:, :width]
    return (found / found.square().mean().sqrt().clamp_min(1e-12)).float()
