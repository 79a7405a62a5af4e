"""Choose an artifact's canaries, record their outputs, and derive how far these may differ elsewhere.

The reasons for the numbers are in docs/decisions/0028-canaries.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np

from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.data.sample_texts import SENTENCES
from compress.export.tolerance import BF16_TOLERANCE
from compress.inference.batches import Forward
from compress.inference.canaries import VERSION, CanaryDocument, CanaryText, text_outputs
from compress.inference.routes import ONNXRUNTIME
from compress.models.inputs import encode_for
from compress.models.layout import CANARIES

FLOAT_SHARE = 0.02  # of the largest logit, in float32
NOISE_SHARE, HALF_NOISE_SHARE = 0.25, 2.0  # of the artifact's own difference to its reference: what other roundings may do
SINGLE, PADDED = 8, (6, 4)  # tokens of the text alone, and of the two in the padded batch
SINGLE_FP32, PADDED_FP32 = 0, (5, 3)  # a float graph of MiniLM's size reads 42 MB of weights per batch: one batch has to do in 5 ms
TEXTS = [(sentence,) for sentence in SENTENCES[:6]]
LONG_TEXT = (SENTENCES[-1],)


def write_canaries(folder: Path, served: Mapping[str, Forward], reference: Forward, largest: float, precision: str, target: Target) -> None:
    """Record the outputs of a new artifact, in every runtime that serves it, on built-in texts: a user's texts stay where they are.

    Args:
        folder: the artifact.
        served: its forward functions by runtime.
        reference: the model that it was made from, in float32.
        largest: the largest absolute logit on the texts that it was verified on.
        precision: of the artifact.
        target: what it predicts.
    """
    batches = canary_batches(folder, reference, precision, target)
    expected = [text_outputs(reference, batch) for batch in batches]
    computed = {runtime: [text_outputs(forward, batch) for batch in batches] for runtime, forward in served.items()}
    largest = max(largest, *(float(np.abs(output).max()) for batch in expected for output in batch))
    noise = max(
        float(np.abs(output - of_reference).max())
        for of_text, of_texts in zip(computed[ONNXRUNTIME], expected, strict=True)
        for output, of_reference in zip(of_text, of_texts, strict=True)
    )
    half = BF16_TOLERANCE * largest + HALF_NOISE_SHARE * noise
    document: CanaryDocument = {
        "version": VERSION,
        "tolerance": _rounded(half if precision in ("fp16", "bf16") else FLOAT_SHARE * largest + NOISE_SHARE * noise, 3),
        "tolerance_half": _rounded(half, 3),
        "batches": [
            [_text(batch, row, {runtime: outputs[number][row] for runtime, outputs in computed.items()}) for row in range(len(batch))]
            for number, batch in enumerate(batches)
        ],
    }
    (folder / CANARIES).write_text(json.dumps(document) + "\n", encoding="utf-8")


def canary_batches(folder: Path, reference: Forward, precision: str, target: Target) -> list[Encoded]:
    """Return the batches: a text alone, except for a float graph, and two texts of different lengths, whose outputs differ most.

    Two different outputs show a kernel that always computes the same; the shorter text is padded.

    Args:
        folder: with the tokenizer.
        reference: the float model.
        precision: of the artifact.
        target: what it predicts.
    """
    single, lengths = (SINGLE_FP32, PADDED_FP32) if precision == "fp32" else (SINGLE, PADDED)
    alone = [_encoded(folder, [LONG_TEXT], single, target)] if single else []
    longer, shorter = (_encoded(folder, TEXTS, length, target) for length in lengths)
    means = [[output.reshape(-1, output.shape[-1]).mean(axis=0) for output in text_outputs(reference, data)] for data in (longer, shorter)]

    def spread(pair: tuple[int, int]) -> tuple[bool, float]:
        first, second = pair
        padded = longer.lengths[first] > shorter.lengths[second]
        return bool(padded), float(np.linalg.norm(means[0][first] - means[1][second]))

    first, second = max(permutations(range(len(TEXTS)), 2), key=spread)
    texts = [longer.take([first]), shorter.take([second])]
    ids, types = ([row for text in texts for row in getattr(text, name)] for name in ("input_ids", "token_type_ids"))
    return [*alone, Encoded(ids, types, np.zeros(len(ids), dtype=np.float32), longer.pad_id)]


def _encoded(folder: Path, texts: list[tuple[str]], length: int, target: Target) -> Encoded:
    """Encode texts for a model, cut to a number of tokens; those of an embedder with its prompt."""
    spec = replace(InputSpec(max_length=length), target="vector" if target == "vector" else "class")
    return encode_for(folder, Examples(texts, np.zeros(len(texts), dtype=np.float32)), spec)


def _text(data: Encoded, row: int, outputs: Mapping[str, np.ndarray]) -> CanaryText:
    return {
        "input_ids": data.input_ids[row].tolist(),
        "token_type_ids": data.token_type_ids[row].tolist(),
        "outputs": {runtime: _digits(output) for runtime, output in outputs.items()},
    }


def _digits(output: np.ndarray) -> list[float] | list[list[float]]:
    """Return an output as lists of numbers with six digits."""
    values = [_rounded(value, 6) for value in output.ravel().tolist()]
    return values if output.ndim == 1 else [values[start : start + output.shape[1]] for start in range(0, len(values), output.shape[1])]


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
