"""Prove that two models compute the same: real texts, single and batched, short and long, with mixed padding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.inference.batches import Forward


@dataclass(frozen=True)
class Verification:
    """The outcome: largest absolute and relative difference of the logits, share of equal answers, what was tried.

    `largest` is the largest absolute logit of the reference.
    """

    max_abs: float
    max_rel: float
    agreement: float
    examples: int
    worst_case: str
    cases: list[str]
    largest: float

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a JSON document."""
        return asdict(self)


ROWS = 32
MOST_TOKENS = 4096  # of the widest batch: at 512 tokens the attention of 32 texts alone would take a gigabyte


def batches_to_try(data: Encoded) -> dict[str, np.ndarray]:
    """Return positions by the name of the case: batch 1 short and long, batches even and ragged, up to 32.

    The widest batch is of texts that are short enough for it, or of fewer where there are none.
    """
    order = np.argsort(data.lengths, kind="stable")
    spread = _spread(order)
    fitting = order[data.lengths[order] * ROWS <= MOST_TOKENS]
    widest = _spread(fitting if len(fitting) else order[: max(1, MOST_TOKENS // int(data.lengths.max()))])
    longest_first = order[::-1]
    cases = {
        "batch 1, shortest": order[:1],
        "batch 1, middle": order[len(order) // 2 : len(order) // 2 + 1],
        "batch 1, longest": longest_first[:1],
        "batch 4, similar lengths": order[len(order) // 2 : len(order) // 2 + 4],
        "batch 2, shortest beside longest": np.array([order[0], order[-1]]),
        "batch 8, mixed padding": spread[:: max(1, len(spread) // 8)][:8],
        "batch 32, mixed padding": widest,
    }
    return {name: positions for name, positions in cases.items() if len(positions)}


def _spread(order: np.ndarray) -> np.ndarray:
    """Return up to 32 of the positions, from the first to the last."""
    return order[np.linspace(0, len(order) - 1, min(ROWS, len(order))).astype(int)]


def verify(reference: Forward, candidate: Forward, data: Encoded, target: Target = "class") -> Verification:
    """Compare the logits, and the answers read from them, of two models on every case of `batches_to_try`."""
    worst, worst_case, relative, equal, total, largest = 0.0, "none", 0.0, 0, 0, 0.0
    cases = batches_to_try(data)
    for name, positions in cases.items():
        batch = data.batch(positions)
        expected, found = reference(batch), candidate(batch)
        real = batch["attention_mask"].astype(bool)
        same = equal_predictions(expected, found, real, target)
        if expected.ndim == 3:  # logits of every token: what is said of padding is never read
            expected, found = expected[real], found[real]
        # A NaN compares false with everything, so it is made the worst difference there is.
        difference = np.nan_to_num(np.abs(expected - found), nan=np.inf)
        if difference.max() > worst:
            worst, worst_case = float(difference.max()), name
        largest = max(largest, float(np.nan_to_num(np.abs(expected), nan=np.inf).max()))
        relative = max(relative, float((difference / (np.abs(expected) + 1e-3)).max()))
        equal += int(same.sum())
        total += len(same)
    return Verification(worst, relative, equal / total, total, worst_case, list(cases), largest)


def cached_forward(forward: Forward) -> Forward:
    """Return a forward function that computes each batch once: the reference of several comparisons."""
    known: dict[bytes, np.ndarray] = {}

    def looked_up(batch: dict[str, np.ndarray]) -> np.ndarray:
        key = b"".join(batch[name].tobytes() for name in sorted(batch)) + repr(batch["input_ids"].shape).encode()
        if key not in known:
            known[key] = forward(batch)
        return known[key]

    return looked_up


def equal_predictions(expected: np.ndarray, found: np.ndarray, real: np.ndarray, target: Target) -> np.ndarray:
    """Tell which answers are equal: classes, all labels, values within 1 %, tags (one a token), first and last tokens."""
    if target == "labels":
        return ((expected > 0) == (found > 0)).all(axis=1)
    if target == "value":
        return (np.abs(expected - found) <= 0.01 * (1 + np.abs(expected)))[:, 0]
    if target == "tags":
        return (expected.argmax(2) == found.argmax(2))[real]
    if target == "span":
        masked = [np.where(real[..., None], logits, -np.inf).argmax(1) for logits in (expected, found)]
        return (masked[0] == masked[1]).all(axis=1)
    return expected.argmax(1) == found.argmax(1)
