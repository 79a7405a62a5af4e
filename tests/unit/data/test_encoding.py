"""From texts to padded batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.data.batching import evaluation_batches, training_batches
from compress.data.encoded import Encoded
from compress.data.encoding import encode
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.models.inputs import encode_for
from compress.models.tokenizer import load_tokenizer
from tests import tiny

Maker = Callable[..., Path]
LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=300).map(np.array)
SIZES = st.integers(1, 40)


@given(LENGTHS, SIZES, st.integers(0, 100))
def test_training_batches_cover_every_example_once(lengths: np.ndarray, size: int, seed: int) -> None:
    batches = training_batches(lengths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert all(1 <= len(batch) <= size for batch in batches)


@given(LENGTHS, SIZES)
def test_evaluation_batches_cover_every_example_once_by_length(lengths: np.ndarray, size: int) -> None:
    batches = evaluation_batches(lengths, size)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) >= 0).all()
    assert all(len(batch) == size for batch in batches[:-1])


def test_training_batches_are_shuffled_anew_and_by_the_seed() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 200)

    def draw(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [[int(i) for batch in training_batches(lengths, 8, rng) for i in batch] for _ in range(2)]

    first, second = draw(1)
    assert first != second
    assert draw(1) == [first, second]
    assert draw(2)[0] != first


def test_training_batches_pad_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 128, 3000)

    def padded(batches: list[np.ndarray]) -> int:
        return sum(int(lengths[batch].max()) * len(batch) for batch in batches)

    shuffled = np.array_split(np.random.default_rng(1).permutation(3000), 3000 // 32)
    assert padded(training_batches(lengths, 32, np.random.default_rng(2))) < 0.65 * padded(shuffled)
    assert padded(training_batches(lengths, 32, np.random.default_rng(2))) < 1.1 * lengths.sum()


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5), st.integers(0, 9))
def test_batches_are_right_padded(rows: list[list[int]], pad: int) -> None:
    data = Encoded([np.array(row) for row in rows], [np.array(row) % 2 for row in rows], np.zeros(len(rows), dtype=int), pad)
    batch = data.batch(range(len(rows)))
    width = max(map(len, rows))
    for number, row in enumerate(rows):
        rest = width - len(row)
        assert batch["input_ids"][number].tolist() == row + [pad] * rest
        assert batch["attention_mask"][number].tolist() == [1] * len(row) + [0] * rest
        assert batch["token_type_ids"][number].tolist() == [value % 2 for value in row] + [0] * rest
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
    assert data.lengths.tolist() == [len(row) for row in rows]


def test_a_batch_can_be_padded_wider() -> None:
    data = tiny.encoded()
    assert data.batch([0, 1], pad_to=100)["input_ids"].shape == (2, 100)


def one(texts: tuple[str, ...], max_length: int, family: str = "bert") -> list[str]:
    """Return the tokens of one example."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        tiny.write_tokenizer(Path(scratch), family)
        tokenizer = load_tokenizer(Path(scratch))
    data = encode(tokenizer, [texts], np.zeros(1, dtype=int), max_length, 0)
    return [tokenizer.id_to_token(int(i)) for i in data.input_ids[0]]


def test_pairs_are_cut_from_the_longer_text() -> None:
    tokens = one(("the dog", "red blue green black white pink grey gold"), 9)
    assert tokens == ["[CLS]", "the", "dog", "[SEP]", "red", "blue", "green", "black", "[SEP]"]


def test_specials_survive_the_cut() -> None:
    assert one(("dog " * 100,), 5) == ["[CLS]", "dog", "dog", "dog", "[SEP]"]
    assert one(("dog " * 100,), 5, "roberta") == ["<s>", "dog", "dog", "dog", "</s>"]


@pytest.mark.parametrize("text", ["x" * 100_000, "😀" * 50, "a\0b", "", "\u202e\ud7ff", "dog " * 50_000])
def test_odd_texts_are_encoded_within_the_length(text: str) -> None:
    assert 2 <= len(one((text,), 16)) <= 16


def test_texts_of_one_and_two_columns_mix() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        tiny.write_tokenizer(Path(scratch))
        data = encode(load_tokenizer(Path(scratch)), [("a dog",), ("a dog", "a cat")], np.zeros(2, dtype=int), 16, 0)
    assert [types.tolist() for types in data.token_type_ids] == [[0] * 4, [0] * 4 + [1] * 3]


def test_length_is_bounded_by_task_and_model(checkpoint: Maker, family: str) -> None:
    examples = Examples([("dog " * 1000,)], np.zeros(1, dtype=int))
    assert encode_for(checkpoint(family), examples, InputSpec(max_length=8192)).lengths.tolist() == [tiny.POSITIONS]
    assert encode_for(checkpoint(family), examples, InputSpec(max_length=10)).lengths.tolist() == [10]


def test_padding_id_is_the_models(checkpoint: Maker, family: str) -> None:
    data = encode_for(checkpoint(family), Examples([("a",), ("a dog",)], np.array([1, 0])), InputSpec(max_length=10))
    assert data.batch([0, 1])["input_ids"][0, -1] == tiny.CONFIGS[family]["pad_token_id"]
    assert data.labels.tolist() == [1, 0]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 120))
def test_batches_within_examples_and_tokens(lengths: list[int], batch_size: int, limit: int) -> None:
    """Every example once, in order of length; within both bounds, one alone aside; and no batch could have had one more."""
    array = np.array(lengths)
    batches = evaluation_batches(array, batch_size, limit)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (np.diff(array[order]) >= 0).all()
    for number, batch in enumerate(batches):
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * array[batch].max() <= limit
        if number + 1 < len(batches):
            following = array[batches[number + 1][0]]
            assert len(batch) == batch_size or (len(batch) + 1) * following > limit
