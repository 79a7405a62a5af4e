"""A static student whose token embeddings come from its teacher (model2vec's idea, and fastText's form, arXiv 1607.01759)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch

from compress.core.errors import ModelError
from compress.distill.bilstm_student import inherited_entries, principal_components
from compress.distill.init_texts import InitTexts
from compress.distill.token_vectors import inverse_frequency, token_vectors
from compress.models.config import max_tokens
from compress.models.embedder import embedder_class, head_without_layers, is_embedder_model
from compress.models.family import STATIC
from compress.models.layers import find_submodule
from compress.models.low_rank import word_embeddings
from compress.models.sentence_head import EMBEDDING_KEY
from compress.models.shape import StaticShape
from compress.models.tokenizer import load_tokenizer
from compress.models.types import TransformersModel

COUNTED = 20_000  # examples in which tokens are counted


def create_static(teacher: TransformersModel, sizes: StaticShape, init: str, texts: InitTexts) -> TransformersModel:
    """Return a static student with the teacher's vocabulary and labels, for inputs as long as the task's.

    Args:
        teacher: a sequence classifier or an embedder of any family, which does not change.
        sizes: the sizes.
        init: `auto` initialises the token embeddings from the teacher, `random` does not; everything else is random.
        texts: of the task.

    Raises:
        ModelError: an example has two texts, and the tokenizer puts no token between them.
    """
    from compress.models.static_model import StaticConfig, StaticForSequenceClassification

    source = teacher.config
    config = StaticConfig(
        vocab_size=source.vocab_size,
        embedding_size=sizes.embedding,
        bigram_size=sizes.bigram,
        bigram_buckets=sizes.buckets,
        intermediate_size=sizes.ffn,
        texts=sizes.texts,
        max_position_embeddings=max(max_tokens(source.to_dict()), texts.input_spec.max_length),
        sep_token_id=separator(texts.folder) if sizes.texts == 2 else None,
        **inherited_entries(teacher),
    )
    if is_embedder_model(teacher):
        setattr(config, EMBEDDING_KEY, head_without_layers(teacher, STATIC, config.intermediate_size).as_json())
    model = (embedder_class(STATIC) if is_embedder_model(teacher) else StaticForSequenceClassification)(config)
    student = cast("TransformersModel", model.eval())
    with torch.no_grad():
        bigrams = find_submodule(student, "static").embeddings["bigram_embeddings"]
        bigrams.weight.zero_()  # so that bigrams of no training text have no effect
        if init == "auto":
            words = word_embeddings(student).get_parameter("weight")
            vectors = principal_components(token_vectors(teacher, texts.folder), sizes.embedding)
            words[:, : vectors.shape[1]] = vectors
            order = np.sort(np.random.default_rng(texts.seed).permutation(len(texts.examples))[:COUNTED])
            weights = inverse_frequency(texts.folder, texts.examples.take(order), texts.input_spec, source.vocab_size)
            words *= weights.unsqueeze(1)
    return student


def separator(folder: Path) -> int:
    """Return the id of the token that a tokenizer puts after the first of two texts.

    Raises:
        ModelError: it puts none.
    """
    encoding = load_tokenizer(folder).encode("a", "b")
    texts = encoding.sequence_ids  # of each token; None for special ones
    after = len(texts) - texts[::-1].index(0)
    if texts[after] is not None:
        raise ModelError(f"the tokenizer in {folder} puts no token between two texts", "a static student needs one: use --student lstm=150")
    return encoding.ids[after]
