"""Token embeddings as a narrow table and a projection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.core.errors import UsageError
from compress.factorize.embeddings import factorize_embeddings
from compress.models.low_rank import FactoredEmbedding, word_embeddings
from tests import tiny


def test_frequent_tokens_are_approximated_better(family: str) -> None:
    data, errors = tiny.encoded(family, 40), []
    for uniform in (False, True):
        model = tiny.make_model(family)
        old = word_embeddings(model).weight.detach()
        factorize_embeddings(model, data, 6, uniform=uniform)
        ids = torch.from_numpy(np.concatenate(data.input_ids))
        errors.append(float((word_embeddings(model)(ids).detach() - old[ids]).square().mean()))
    assert errors[0] < errors[1]


def test_the_full_rank_is_no_smaller_and_is_refused(family: str) -> None:
    model = tiny.make_model(family)
    with pytest.raises(UsageError, match=f"no smaller at rank {tiny.HIDDEN}") as caught:
        factorize_embeddings(model, tiny.encoded(family), tiny.HIDDEN)
    largest = int((caught.value.hint or "").split()[2])
    factorize_embeddings(model, tiny.encoded(family), largest)
    embeddings = word_embeddings(model)
    assert isinstance(embeddings, FactoredEmbedding)
    assert embeddings.rank == largest
