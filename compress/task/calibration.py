"""The texts that scores, refits and factors are computed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.task.encode import Encoded, encode_for
from compress.task.load import Examples
from compress.task.reading import Reading

MAX_TOKENS = 50_000  # beyond which time would go into more of the same


def calibration_data(folder: Path, examples: Examples, reading: Reading, count: int, seed: int) -> Encoded:
    """Encode `count` examples for the model in `folder`, fewer where they have more than `MAX_TOKENS` together."""
    data = encode_for(folder, calibration_examples(examples, count, seed), reading)
    tokens = int(data.lengths.sum())
    if tokens <= MAX_TOKENS:
        return data
    fewer = max(2, round(min(count, len(examples)) * MAX_TOKENS / tokens))
    return encode_for(folder, calibration_examples(examples, fewer, seed), reading)


def calibration_examples(examples: Examples, count: int, seed: int) -> Examples:
    """Draw `count` examples (all, where there are fewer)."""
    if len(examples) <= count:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False)))
