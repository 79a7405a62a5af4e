"""The proof that two models compute the same: it must fail where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.export.verify import batches_to_try, verify
from compress.model.scorer import torch_forward
from compress.task.encode import Encoded
from tests import tiny


def exact(batch: dict[str, np.ndarray]) -> np.ndarray:
    """A model whose logits do not depend on padding."""
    mask = batch["attention_mask"]
    total = (batch["input_ids"] * mask).sum(axis=1)
    return np.stack([total / 100, mask.sum(axis=1) / 10], axis=1).astype(np.float32)


def with_fault(where: Any, size: float) -> Any:
    """The same model, wrong by `size` where the condition on a batch holds."""
    return lambda batch: exact(batch) + size * where(batch)


FAULTS = {
    "always": lambda batch: 1.0,
    "batch 1 only": lambda batch: float(len(batch["input_ids"]) == 1),
    "batches only": lambda batch: float(len(batch["input_ids"]) > 1),
    "padded rows only": lambda batch: (batch["attention_mask"][:, -1:] == 0).astype(np.float32),
    "the longest only": lambda batch: float(batch["input_ids"].shape[1] == int(tiny.encoded("bert", 40).lengths.max())),
    "short texts only": lambda batch: batch["attention_mask"].sum(axis=1, keepdims=True) == tiny.encoded("bert", 40).lengths.min(),
}


def test_equal_models_differ_by_nothing() -> None:
    found = verify(exact, exact, tiny.encoded("bert", 40))
    assert (found.max_abs, found.max_rel, found.agreement, found.worst_case) == (0.0, 0.0, 1.0, "none")
    assert found.examples == sum(len(positions) for positions in batches_to_try(tiny.encoded("bert", 40)).values())


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    found = verify(exact, with_fault(FAULTS[fault], 0.25), tiny.encoded("bert", 40))
    assert found.max_abs == pytest.approx(0.25, rel=1e-4)
    assert found.worst_case in found.cases


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_the_worst(value: float) -> None:
    assert verify(exact, lambda batch: exact(batch) * 0 + value, tiny.encoded()).max_abs > 1e38
    assert verify(lambda batch: exact(batch) * 0 + value, exact, tiny.encoded()).max_abs > 1e38


def test_a_swap_of_classes_shows_in_the_agreement() -> None:
    assert verify(exact, lambda batch: exact(batch)[:, ::-1], tiny.encoded("bert", 40)).agreement == 0


def test_a_wrong_mask_shows_on_a_real_model(family: str) -> None:
    """A model that takes padding for text agrees on single texts and fails on ragged batches."""
    right = torch_forward(tiny.make_model(family))
    wrong = lambda batch: right(batch | {"attention_mask": np.ones_like(batch["attention_mask"])})  # noqa: E731
    found = verify(right, wrong, tiny.encoded(family, 40))
    assert found.max_abs > 1e-2
    assert "batch 1" not in found.worst_case


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 40])
def test_cases_fit_any_number_of_examples(count: int) -> None:
    data = tiny.encoded("bert", 40)
    part = Encoded(data.input_ids[:count], data.token_type_ids[:count], data.labels[:count], 0)
    cases = batches_to_try(part)
    assert all(1 <= len(positions) <= 32 and set(positions) <= set(range(count)) for positions in cases.values())
    assert part.lengths[cases["batch 1, shortest"]][0] == part.lengths.min()
    assert part.lengths[cases["batch 1, longest"]][0] == part.lengths.max()
    assert verify(exact, exact, part).agreement == 1


def test_as_json_is_plain() -> None:
    import json

    json.dumps(verify(exact, exact, tiny.encoded()).as_json())


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80))
def test_the_widest_batch_is_bounded(lengths: list[int]) -> None:
    """At most 32 texts and 4096 tokens, padding included; short texts are spread over all that fit."""
    data = Encoded([np.zeros(length, dtype=np.int64) for length in lengths], [], np.zeros(len(lengths)), 0)
    chosen = batches_to_try(data)["batch 32, mixed padding"]
    assert 1 <= len(chosen) <= 32
    assert len(chosen) == 1 or len(chosen) * data.lengths[chosen].max() <= 4096
    assert len(set(chosen.tolist())) == len(chosen)
