"""From texts to padded batches: tokenized once, grouped by length, padded only to the longest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.model.config import max_tokens, read_config
from compress.model.tokenizer import load_tokenizer, pad_id
from compress.task.load import Examples

if TYPE_CHECKING:
    from tokenizers import Tokenizer

POOL_BATCHES = 50  # batches shuffled together before sorting by length: random enough, padded little


@dataclass(frozen=True)
class Encoded:
    """Token ids of every example, unpadded, with what a batch needs to know."""

    input_ids: list[np.ndarray]  # each (length,) int64
    token_type_ids: list[np.ndarray]
    labels: np.ndarray  # (n,) int64
    pad_id: int

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, (n,)."""
        return np.array([len(ids) for ids in self.input_ids])

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return `input_ids`, `attention_mask`, `token_type_ids`, each (batch, length) int64, right-padded."""
        longest = max(len(self.input_ids[i]) for i in positions)
        width = pad_to or longest
        shape = (len(positions), width)
        batch = {
            "input_ids": np.full(shape, self.pad_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "token_type_ids": np.zeros(shape, dtype=np.int64),
        }
        for row, i in enumerate(positions):
            ids = self.input_ids[i]
            batch["input_ids"][row, : len(ids)] = ids
            batch["attention_mask"][row, : len(ids)] = 1
            batch["token_type_ids"][row, : len(ids)] = self.token_type_ids[i]
        return batch


def encode(tokenizer: Tokenizer, texts: list[tuple[str, ...]], labels: np.ndarray, max_length: int, pad_id: int) -> Encoded:
    """Tokenize texts (one or two each), cut to `max_length` tokens from the longer text."""
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    inputs = [text if len(text) == 2 else text[0] for text in texts]
    encodings = tokenizer.encode_batch_fast(inputs)
    return Encoded(
        [np.array(encoding.ids, dtype=np.int64) for encoding in encodings],
        [np.array(encoding.type_ids, dtype=np.int64) for encoding in encodings],
        labels,
        pad_id,
    )


def encode_for(folder: Path, examples: Examples, max_length: int) -> Encoded:
    """Tokenize examples with the tokenizer of a model folder, cut to what the task and the model's positions allow.

    Raises:
        ModelError: the folder has no usable tokenizer, or it belongs to another model.
    """
    config = read_config(folder)
    tokenizer = load_tokenizer(folder, config["vocab_size"])
    return encode(tokenizer, examples.texts, examples.labels, min(max_length, max_tokens(config)), pad_id(folder))


def training_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle, sort by length within pools of many batches, cut into batches, shuffle those: positions of each batch."""
    order = rng.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        chunk = order[start : start + pool]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Sort by length and cut into batches: positions of each batch, every example once."""
    order = np.argsort(lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
