"""Canaries: a few texts, as tokens, whose outputs an artifact carries, so that a runtime that computes it wrongly is noticed at once.

`canaries.json`, which `export` and `quantize` write:

    {"version": 1, "tolerance": 0.08, "tolerance_half": 0.2,
     "batches": [[{"input_ids": [101, 2748, 1012, 102], "token_type_ids": [0, 0, 0, 0],
                   "outputs": {"onnxruntime": [-0.86, 3.77], "openvino": [-0.85, 3.77]}}]]}

A batch is run as it is written, right-padded. Outputs are (classes) per text, (size) for a vector, or (length, classes) per token;
of OpenVINO only if it serves the artifact, which may have a graph of its own for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from compress.core import files, machine
from compress.core.errors import ModelError
from compress.data.encoded import Encoded
from compress.inference.batches import Forward
from compress.inference.routes import ONNXRUNTIME
from compress.models.layout import CANARIES

VERSION = 1
MAX_BYTES, MAX_TEXTS, MAX_TOKENS = 4 << 20, 32, 512


class CanaryText(TypedDict):
    """A text and its outputs by runtime."""

    input_ids: list[int]
    token_type_ids: list[int]
    outputs: dict[str, list[float] | list[list[float]]]


class CanaryDocument(TypedDict):
    """The contents of `canaries.json`."""

    version: int
    tolerance: float
    """Largest difference of an output if floats are computed in float32."""
    tolerance_half: float
    """The same in 16 bits."""
    batches: list[list[CanaryText]]


@dataclass(frozen=True)
class Canaries:
    """Batches of texts and their outputs.

    Attributes:
        batches: texts of each batch.
        expected: for each batch the output of each text by runtime: (classes,), (size,) or (length, classes) float32.
        tolerance: the largest difference of an output in float32.
        tolerance_half: in 16 bits.
    """

    batches: list[Encoded]
    expected: list[list[dict[str, np.ndarray]]]
    tolerance: float
    tolerance_half: float

    def difference(self, forward: Forward, runtime: str) -> float:
        """Return the largest difference between an output of a runtime and its recorded value; infinite if one is not a number.

        Where the runtime's own outputs are not recorded, ONNX Runtime's are compared.
        """
        worst = 0.0
        for texts, recorded in zip(self.batches, self.expected, strict=True):
            for computed, of_text in zip(text_outputs(forward, texts), recorded, strict=True):
                expected = of_text.get(runtime, of_text[ONNXRUNTIME])
                if computed.shape != expected.shape:
                    return float("inf")
                # A NaN compares false with everything, so it becomes the largest difference.
                worst = max(worst, float(np.nan_to_num(np.abs(computed - expected), nan=np.inf).max()))
        return worst


def text_outputs(forward: Forward, texts: Encoded) -> list[np.ndarray]:
    """Run texts as one batch; returns the output of each: (classes,), (size,), or (length, classes) without padding."""
    outputs = forward(texts.batch(range(len(texts))))
    return [row[:length] if outputs.ndim == 3 else row for row, length in zip(outputs, texts.lengths, strict=True)]


def read_canaries(folder: Path, vocab_size: int, longest: int, pad_id: int) -> Canaries | None:
    """Return the canaries of an artifact; None if it has none, as those that earlier versions wrote.

    Args:
        folder: the artifact.
        vocab_size: of the model.
        longest: the most tokens of a text.
        pad_id: the id of padding.

    Raises:
        ModelError: the file is malformed.
    """
    path = folder / CANARIES
    if not path.is_file():
        return None
    try:
        return _parsed(files.read_json(path, limit=MAX_BYTES), vocab_size, longest, pad_id)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = (str(error).splitlines() or ["?"])[0][:200]
        raise ModelError(
            f"{path} is malformed: {reason}", "create the artifact again, or open it with check=False (--no-check on the command line)"
        ) from error


def _parsed(document: CanaryDocument, vocab_size: int, longest: int, pad_id: int) -> Canaries:
    """Check every value of the document.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: one is malformed.
    """
    if document["version"] != VERSION:
        raise ValueError(f"its version is {document['version']!r}, and this program knows {VERSION}")
    tolerances = [float(document["tolerance"]), float(document["tolerance_half"])]
    if not all(np.isfinite(value) and value > 0 for value in tolerances):
        raise ValueError("a tolerance is not positive")
    batches = document["batches"]
    if not batches or not all(batches) or sum(map(len, batches)) > MAX_TEXTS:
        raise ValueError(f"there are no texts, or more than {MAX_TEXTS}")
    longest = min(longest, MAX_TOKENS)
    encoded = [_encoded(texts, vocab_size, longest, pad_id) for texts in batches]
    expected = [[_outputs(text["outputs"]) for text in texts] for texts in batches]
    return Canaries(encoded, expected, *tolerances)


def _encoded(texts: Sequence[CanaryText], vocab_size: int, longest: int, pad_id: int) -> Encoded:
    rows = [[np.array(text[name]) for text in texts] for name in ("input_ids", "token_type_ids")]
    for ids, types in zip(*rows, strict=True):
        if ids.ndim != 1 or ids.dtype != np.int64 or not 0 < len(ids) <= longest or ids.min() < 0 or ids.max() >= vocab_size:
            raise ValueError("a text has ids that the model does not know, none, or too many")
        if types.shape != ids.shape or types.dtype != np.int64 or types.min() < 0 or types.max() > 1:
            raise ValueError("a text has token types other than 0 and 1")
    return Encoded(rows[0], rows[1], np.zeros(len(texts), dtype=np.float32), pad_id)


def _outputs(outputs: Mapping[str, object]) -> dict[str, np.ndarray]:
    arrays = {runtime: np.array(values, dtype=np.float32) for runtime, values in outputs.items()}
    if ONNXRUNTIME not in arrays or not all(array.size and np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("an output is missing, or not finite")
    return arrays


def check_outputs(canaries: Canaries, forward: Forward, runtime: str, half: bool, name: str, made_for: str) -> None:
    """Compare an opened artifact with its canaries.

    Args:
        canaries: of the artifact.
        forward: the artifact as it was opened.
        runtime: that computes it.
        half: whether floats are computed in 16 bits.
        name: of the artifact.
        made_for: instruction sets that it was made for and this processor lacks; empty if there are none.

    Raises:
        ModelError: the outputs are wrong.
    """
    difference, tolerance = canaries.difference(forward, runtime), canaries.tolerance_half if half else canaries.tolerance
    if difference <= tolerance:
        return
    cause = f", which lacks {made_for}" if made_for else ""
    raise ModelError(
        f"{name} computes wrong outputs in {runtime} on this processor ({machine.cpu_name()}{cause}): they differ by up to "
        f"{difference:.2g} from those recorded when it was made, and at most {tolerance:.2g} is rounding",
        "copy or create the artifact again, or quantize it on this machine (compress quantize MODEL -o DIR); "
        "to use it all the same: --no-check, in Python check=False",
    )
