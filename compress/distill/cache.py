"""What the teacher says about every training example, computed once and kept on disk (see `store`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.core import caches, console, digests, disk, machine
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.distill.cache_files import is_stored, stored
from compress.distill.features import Feature, observe, width_of
from compress.models.device import to_tensors
from compress.models.family import TOKEN_HEADS
from compress.models.task_loss import logits_of

MAX_FEATURE_BYTES = 3 << 30  # larger hidden states and the like are computed anew in every step instead
BATCH = 64
VERSION = 2


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's answers to a data set.

    `logits` is (n, classes) float32, or (tokens of all examples, logits) where every token has its own. `features` are
    (tokens of all examples, width) float16 each, memory-mapped, or None where they would not fit. Example i's tokens are
    rows `starts[i] : starts[i + 1]`.
    """

    logits: np.ndarray
    features: dict[Feature, np.ndarray] | None
    starts: np.ndarray

    def logits_batch(self, positions: Sequence[int] | np.ndarray, like: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch, zero-padded to the shape of the student's (`like`)."""
        if like.ndim == 2:
            return torch.from_numpy(self.logits[np.asarray(positions, dtype=int)])
        return self._padded(self.logits, positions, like.shape[1])

    def features_batch(self, positions: Sequence[int] | np.ndarray, tokens: int) -> dict[Feature, torch.Tensor]:
        """Return the features of a batch, each cut or zero-padded to (batch, tokens, width) float32."""
        return {feature: self._padded(rows, positions, tokens) for feature, rows in (self.features or {}).items()}

    def _padded(self, rows: np.ndarray, positions: Sequence[int] | np.ndarray, tokens: int) -> torch.Tensor:
        batch = np.zeros((len(positions), tokens, rows.shape[1]), dtype=np.float32)
        for row, i in enumerate(positions):
            own = rows[self.starts[i] : self.starts[i + 1]][:tokens]
            batch[row, : len(own)] = own
        return torch.from_numpy(batch)


def teacher_outputs(teacher: Any, digest: str, data: Encoded, wanted: Sequence[Feature], device: torch.device) -> TeacherOutputs:
    """Return the teacher's outputs from the cache, or compute and cache them.

    The key holds the teacher's digest, every token id, the features asked for and the libraries that compute them, so that another
    teacher, another text or another maximum length never meets these outputs.

    Args:
        teacher: a model with its head in evaluation mode.
        digest: of the teacher's folder.
        data: the examples, as its own tokenizer cuts them.
        wanted: features; may be empty.
        device: where to compute.

    Raises:
        ResourceError: the cache's disk is full, or cannot be written.
    """
    features = sorted(set(wanted))
    bytes_needed = int(data.starts[-1]) * sum(width_of(teacher, feature) for feature in features) * 2
    tokens = digests.digest_bytes(b"".join(ids.tobytes() for ids in (*data.input_ids, *data.token_type_ids)) + data.lengths.tobytes())

    libraries = [machine.version_of(name) for name in ("torch", "transformers")]

    def entry(features: list[Feature]) -> Path:
        return caches.cache_root() / "teachers" / digests.digest_json([VERSION, digest, tokens, features, *libraries])

    folder = entry(features)
    fits = bytes_needed <= MAX_FEATURE_BYTES and (is_stored(folder) or bytes_needed <= disk.free_space(folder))
    if not fits:
        features, bytes_needed = [], 0
        folder = entry(features)
    bytes_needed += _logits_shape(teacher, data)[0] * teacher.config.num_labels * 4

    def compute(temporary: Path) -> dict[str, Any]:
        _compute(teacher, data, features, temporary, device)
        return {"kind": "teacher-outputs", "features": features}

    with stored(folder, bytes_needed, compute, "teacher's answers"):
        logits = np.load(folder / "logits.npy")
        found = {feature: np.load(folder / _file(feature), mmap_mode="r") for feature in features}
    return TeacherOutputs(logits, found if fits else None, data.starts)


def _file(feature: Feature) -> str:
    return f"{feature[0]}-{feature[1]}.npy"


def _logits_shape(teacher: Any, data: Encoded) -> tuple[int, int]:
    per_token = type(teacher).__name__.endswith(tuple(TOKEN_HEADS))
    return int(data.starts[-1]) if per_token else len(data), teacher.config.num_labels


def _compute(teacher: Any, data: Encoded, features: list[Feature], folder: Path, device: torch.device) -> None:
    teacher.to(device)
    starts = data.starts
    found = {feature: _mapped(folder / _file(feature), (int(starts[-1]), width_of(teacher, feature))) for feature in features}
    logits = np.empty(_logits_shape(teacher, data), dtype=np.float32)
    batches = evaluation_batches(data.lengths, BATCH)
    with console.progress("teacher's answers", len(batches)) as advance, torch.inference_mode():
        for positions in batches:
            outputs, seen = observe(teacher, to_tensors(data.batch(positions), teacher, device), features)
            answers = logits_of(outputs).float().cpu().numpy()
            if answers.ndim == 2:
                logits[positions] = answers
            rows = {feature: states.half().cpu().numpy() for feature, states in seen.items()}
            for row, i in enumerate(positions):
                own = slice(starts[i], starts[i + 1])
                if answers.ndim == 3:
                    logits[own] = answers[row, : starts[i + 1] - starts[i]]
                for feature, states in rows.items():
                    found[feature][own] = states[row, : starts[i + 1] - starts[i]]
            advance()
    for rows in found.values():
        rows.flush()
    np.save(folder / "logits.npy", logits)


def _mapped(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Create an array's file with its room taken at once: a full disk under a mapped file would kill the process."""
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    with path.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return rows
