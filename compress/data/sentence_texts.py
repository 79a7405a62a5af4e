"""The single texts that an embedder encodes, of examples that are texts alone or scored pairs, and what its vectors say about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from compress.core.errors import DataError
from compress.data.examples import Examples
from compress.data.streamed import StreamedTexts, Texts


def single_texts(examples: Examples, prompts: tuple[str, str] = ("", "")) -> Examples:
    """Return every text of the examples as an example of its own, without labels (zeros); streamed texts stay streamed.

    Args:
        examples: of one text each, or of two, which follow each other.
        prompts: to put before the first text of an example, and before the second.
    """

    def read() -> Iterator[Texts]:
        return ((prompt + text,) for example in examples.texts for prompt, text in zip(prompts, example, strict=False))

    streamed = isinstance(examples.texts, StreamedTexts)
    count = len(examples) * (2 if is_paired(examples) else 1)
    texts: Sequence[Texts] = StreamedTexts(read, np.arange(count)) if streamed else list(read())
    return Examples(texts, np.zeros(len(texts), dtype=np.float32))


def is_paired(examples: Examples) -> bool:
    """Return whether examples are pairs of texts, whose prediction is the cosine of their vectors."""
    return len(examples) > 0 and len(next(iter(examples.texts))) == 2


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of one array with the same row of the other, (n,) float32; 0 for a vector of zeros.

    Raises:
        DataError: the vectors are of different sizes.
    """
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"vectors of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared",
            "compare embedders whose vectors have the same size",
        )
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = np.einsum("nd,nd->n", first, second)
    return np.clip(np.where(norms > 0, products / np.where(norms > 0, norms, 1), 0), -1, 1).astype(np.float32)


def decode_vectors(vectors: np.ndarray, examples: Examples) -> np.ndarray:
    """Return the predictions of examples: vectors, (n, size), of texts alone; cosines, (n,), of pairs.

    Args:
        vectors: of their single texts, in the order of `single_texts`.
        examples: of one kind.
    """
    return cosines(vectors[::2], vectors[1::2]) if is_paired(examples) else vectors
