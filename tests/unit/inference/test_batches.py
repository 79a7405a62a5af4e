"""Running a model over a whole split."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from compress.inference.batches import run_batches
from tests import tiny


def sums(batch: dict[str, np.ndarray]) -> np.ndarray:
    """Return the sum of ids and the number of tokens, (batch, 2)."""
    return np.stack([batch["input_ids"].sum(axis=1), batch["attention_mask"].sum(axis=1)], axis=1).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_outputs_come_in_the_order_of_the_data(batch_size: int) -> None:
    data = tiny.encoded("bert", 12)
    expected = [[ids.sum(), len(ids)] for ids in data.input_ids]  # the padding id is 0
    np.testing.assert_array_equal(run_batches(sums, data, batch_size), expected)


def test_outputs_per_token_come_without_padding() -> None:
    data = tiny.encoded("bert", 12)
    outputs = run_batches(lambda batch: batch["input_ids"][:, :, None], data, 5, dtype=np.int64)
    np.testing.assert_array_equal(outputs[:, 0], np.concatenate(data.input_ids))


def test_a_batch_has_at_most_so_many_tokens() -> None:
    sizes: list[int] = []

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        sizes.append(batch["input_ids"].size)
        return sums(batch)

    data = tiny.encoded("bert", 12)
    run_batches(forward, data, 12, max_tokens=2 * int(data.lengths.max()))
    assert len(sizes) > 1
    assert max(sizes) <= 2 * data.lengths.max()


@pytest.mark.parametrize("streams", [2, 3])
def test_streams_compute_the_same(streams: int) -> None:
    data = tiny.encoded("bert", 12)
    threads: set[int] = set()

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        threads.add(threading.get_ident())
        return sums(batch)

    np.testing.assert_array_equal(run_batches(forward, data, 2, streams=streams), run_batches(sums, data, 2))
    assert threading.get_ident() not in threads


def test_one_text_is_a_batch_without_padding() -> None:
    data = tiny.encoded("bert", 12).take([3])
    np.testing.assert_array_equal(run_batches(sums, data), [[data.input_ids[0].sum(), len(data.input_ids[0])]])
    per_token = run_batches(lambda batch: batch["input_ids"][:, :, None], data, dtype=np.int64)
    np.testing.assert_array_equal(per_token[:, 0], data.input_ids[0])
    batch = data.batch([0])
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), ((1, len(data.input_ids[0])), np.dtype(np.int64))
    )
    batch["input_ids"][:] = 0
    assert data.input_ids[0].any()
