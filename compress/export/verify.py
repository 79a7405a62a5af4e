"""Verify that two models compute the same logits: real texts, single and batched, short and long, with mixed padding."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from compress.core import console
from compress.data.encoded import Encoded
from compress.data.input_spec import TOKEN_LABELS, Target
from compress.data.sentence_texts import cosines
from compress.inference.batches import Forward
from compress.models.token_reduction import closest_margins
from compress.results.graphs import VerificationFacts

ROWS = 32
EQUAL_COSINE = 0.9999
MAX_BATCH_TOKENS = 4096  # of the widest batch: at 512 tokens the attention of 32 texts alone would take a gigabyte
CLOSE_CALL = 1e-4  # share of the attention that a token receives
LARGEST_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Verification:
    """How far the logits of two models agree.

    Attributes:
        max_abs: largest absolute difference of the logits.
        max_rel: largest relative difference.
        agreement: share of equal predictions.
        examples: number of predictions compared.
        worst_case: the batch with the largest difference.
        cases: the batches compared.
        largest: largest absolute logit of the reference.
    """

    max_abs: float
    max_rel: float
    agreement: float
    examples: int
    worst_case: str
    cases: list[str]
    largest: float

    @property
    def is_finite(self) -> bool:
        """Whether all logits are finite."""
        return self.max_abs < LARGEST_FLOAT

    def as_json(self) -> VerificationFacts:
        """Return the fields as a JSON document."""
        return VerificationFacts(**asdict(self))


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Return at most `count` positions spread evenly over `total`, the first and the last among them."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


def subsample(data: Encoded, count: int) -> Encoded:
    """Return at most `count` examples, spread evenly."""
    return data.take(evenly_spaced(len(data), count))


def batches_to_try(data: Encoded) -> dict[str, np.ndarray]:
    """Return the positions of each batch by its name: batch 1 short and long, batches even and ragged, up to 32.

    The widest batch has texts short enough for `MAX_BATCH_TOKENS`, or fewer texts if there are none.
    """
    order = np.argsort(data.lengths, kind="stable")
    spread = order[evenly_spaced(len(order), ROWS)]
    fitting = order[data.lengths[order] * ROWS <= MAX_BATCH_TOKENS]
    if not len(fitting):
        fitting = order[: max(1, MAX_BATCH_TOKENS // int(data.lengths.max()))]
    middle = len(order) // 2
    cases = {
        "batch 1, shortest": order[:1],
        "batch 1, middle": order[middle : middle + 1],
        "batch 1, longest": order[::-1][:1],
        "batch 4, similar lengths": order[middle : middle + 4],
        "batch 2, shortest and longest": np.array([order[0], order[-1]]),
        "batch 8, mixed padding": spread[:: max(1, len(spread) // 8)][:8],
        "batch 32, mixed padding": fitting[evenly_spaced(len(fitting), ROWS)],
    }
    return {name: positions for name, positions in cases.items() if len(positions)}


def without_close_calls(data: Encoded, reference: Forward) -> Encoded:
    """Return the texts to verify a model on that drops tokens: those for which its selections do not hang on a rounding.

    Where two tokens receive the same attention up to `CLOSE_CALL`, another order of a sum may keep the other one. All texts if no other is
    left.

    Args:
        data: the texts; those that `verify` does not try are left out, too.
        reference: the model in PyTorch.
    """
    tried = np.unique(np.concatenate(list(batches_to_try(data).values())))
    decided = []
    for position in tried.tolist():
        reference(data.batch([position]))
        margins = closest_margins()
        if margins is None or float(margins.min()) > CLOSE_CALL:
            decided.append(position)
    return data.take(decided) if decided else data


def verify(reference: Forward, candidate: Forward, data: Encoded, target: Target = "class") -> Verification:
    """Compare the logits of two models, and the predictions decoded from them, on every batch of `batches_to_try`."""
    max_abs, worst_case, max_rel, equal, total, largest = 0.0, "none", 0.0, 0, 0, 0.0
    cases = batches_to_try(data)
    for name, positions in cases.items():
        batch = data.batch(positions)
        expected, logits = reference(batch), candidate(batch)
        mask = batch["attention_mask"].astype(bool)
        same = equal_predictions(expected, logits, mask, target)
        if expected.ndim == 3:  # logits of every token: those of padding are never used
            expected, logits = expected[mask], logits[mask]
        # A NaN compares false with everything, so it becomes the largest difference.
        difference = np.nan_to_num(np.abs(expected - logits), nan=np.inf)
        if difference.max() > max_abs:
            max_abs, worst_case = float(difference.max()), name
        largest = max(largest, float(np.nan_to_num(np.abs(expected), nan=np.inf).max()))
        max_rel = max(max_rel, float((difference / (np.abs(expected) + 1e-3)).max()))
        equal += int(same.sum())
        total += len(same)
    return Verification(max_abs, max_rel, equal / total, total, worst_case, list(cases), largest)


def equal_predictions(expected: np.ndarray, logits: np.ndarray, mask: np.ndarray, target: Target) -> np.ndarray:
    """Return which predictions are equal, (n,): classes, label sets, values within 1 %, tags (one per token), spans, vectors.

    Vectors are equal if their cosine is at least `EQUAL_COSINE`.

    Args:
        expected: logits of the reference, (batch, …).
        logits: of the candidate, the same shape.
        mask: the attention mask as booleans, (batch, length).
        target: what is predicted.
    """
    if target == "vector":
        return cosines(expected, logits) >= EQUAL_COSINE
    if target == "labels":
        return ((expected > 0) == (logits > 0)).all(axis=1)
    if target == "value":
        return (np.abs(expected - logits) <= 0.01 * (1 + np.abs(expected)))[:, 0]
    if target in TOKEN_LABELS:
        return (expected.argmax(2) == logits.argmax(2))[mask]
    if target == "span":
        ends = [np.where(mask[..., None], values, -np.inf).argmax(1) for values in (expected, logits)]
        return (ends[0] == ends[1]).all(axis=1)
    return expected.argmax(1) == logits.argmax(1)


def cached_forward(forward: Forward) -> Forward:
    """Return a forward function that computes each batch once, for a reference that several models are compared with."""
    outputs: dict[bytes, np.ndarray] = {}

    def cached(batch: dict[str, np.ndarray]) -> np.ndarray:
        key = b"".join(batch[name].tobytes() for name in sorted(batch)) + repr(batch["input_ids"].shape).encode()
        if key not in outputs:
            outputs[key] = forward(batch)
        return outputs[key]

    return cached


def announce_verification(verification: Verification, against: str, target: Target) -> None:
    """Print how far two models agree."""
    share = f"{100 * verification.agreement:.1f} % of {verification.examples} examples in {len(verification.cases)} batch shapes"
    outputs, equal = ("vectors", f"the cosine is at least {EQUAL_COSINE} for") if target == "vector" else ("logits", "predictions agree on")
    console.info(f"  against {against}: {outputs} differ by at most {verification.max_abs:.1e}, {equal} {share}")
