"""A teacher's vector for each token, and the weights of tokens in a mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.distill import token_vectors as module
from compress.distill.token_vectors import COMMON, inverse_frequency, token_vectors
from compress.models.checkpoint import load_model
from compress.models.low_rank import word_embeddings
from tests import tiny

Maker = Callable[..., Path]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_vector_of_a_token_is_the_teachers_output_for_it_alone(
    family: str, checkpoint: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    folder = checkpoint(family)
    teacher, names = load_model(folder), tiny.vocabulary(family)
    vectors = token_vectors(teacher, folder)
    start, end = ("[CLS]", "[SEP]") if "[CLS]" in names else ("<s>", "</s>")
    assert vectors.shape == (len(names), tiny.HIDDEN)
    for word in ("dog", names[0], names[-1]):
        ids = torch.tensor([[names.index(token) for token in (start, word, end)]])
        with torch.no_grad():
            states = teacher(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(vectors[names.index(word)], states.mean(0), rtol=0, atol=2e-3)


def test_they_are_computed_once(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    folder = checkpoint()
    teacher = load_model(folder)
    first = token_vectors(teacher, folder)
    monkeypatch.setattr(module, "_compute", lambda *args: pytest.fail("computed again"))
    assert torch.equal(token_vectors(teacher, folder), first)


def test_a_teacher_without_layers_gives_its_embeddings(tmp_path: Path) -> None:
    for teacher in (tiny.make_bilstm(), tiny.make_static()):
        assert torch.equal(token_vectors(teacher, tmp_path), word_embeddings(teacher).weight.detach())


def test_frequent_tokens_weigh_less(checkpoint: Maker) -> None:
    names = tiny.vocabulary()
    examples: Any = Examples([("dog dog tea",)], np.zeros(1))
    weights = inverse_frequency(checkpoint(), examples, InputSpec(), len(names))
    assert float(weights[names.index("cat")]) == 1
    assert float(weights[names.index("dog")]) == pytest.approx(COMMON / (COMMON + 2 / 5), rel=1e-5)
    assert float(weights[names.index("tea")]) == pytest.approx(COMMON / (COMMON + 1 / 5), rel=1e-5)
