"""A teacher's outputs on every training example, computed once and cached on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from compress.core import caches, console, digests, disk, machine
from compress.core.disk_cache import cached_folder, is_cached
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.distill.features import Feature, feature_width, forward_with_features
from compress.models.device import to_tensors
from compress.models.embedder import head_of, is_embedder_model, vector_size
from compress.models.family import TOKEN_HEADS
from compress.models.head import model_labels
from compress.models.task_loss import logits_of
from compress.models.types import TransformersModel

MAX_FEATURE_BYTES = 3 << 30  # larger features are not cached but computed again in every step
BATCH = 64
VERSION = 2


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs on n examples, of which example i has the tokens `starts[i] : starts[i + 1]`.

    Attributes:
        logits: (n, classes) float32, or (tokens of all examples, logits) if every token has its own.
        features: (tokens of all examples, width) float16 each, memory-mapped; None if they do not fit.
        starts: (n + 1,) int64.
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
        """Return the features of a batch, each truncated or zero-padded to (batch, tokens, width) float32."""
        return {feature: self._padded(rows, positions, tokens) for feature, rows in (self.features or {}).items()}

    def _padded(self, rows: np.ndarray, positions: Sequence[int] | np.ndarray, tokens: int) -> torch.Tensor:
        batch = np.zeros((len(positions), tokens, rows.shape[1]), dtype=np.float32)
        for row, i in enumerate(positions):
            example = rows[self.starts[i] : self.starts[i + 1]][:tokens]
            batch[row, : len(example)] = example
        return torch.from_numpy(batch)


def compute_teacher_outputs(
    teacher: TransformersModel, digest: str, data: Encoded, features: Sequence[Feature], device: torch.device
) -> TeacherOutputs:
    """Return the teacher's outputs from the cache, or compute and cache them.

    The key contains the teacher's digest, an embedder's head (its pooling need not be in its folder), every token id, the features and
    the versions of the libraries, so the outputs are never used for another teacher, text or maximum length.

    Args:
        teacher: a model with its head, in evaluation mode.
        digest: of the teacher's folder.
        data: the examples, encoded by its tokenizer.
        features: to compute besides the logits; may be empty.
        device: where to compute.

    Raises:
        ResourceError: the cache's disk is full or not writable.
    """
    features = sorted(set(features))
    bytes_needed = int(data.starts[-1]) * sum(feature_width(teacher, feature) for feature in features) * 2
    tokens = digests.digest_bytes(b"".join(ids.tobytes() for ids in (*data.input_ids, *data.token_type_ids)) + data.lengths.tobytes())
    libraries = [machine.version_of(name) for name in ("torch", "transformers")]
    head = [head_of(teacher.config).as_json()] if is_embedder_model(teacher) else []
    cache = caches.writable_root()

    def entry(features: list[Feature]) -> Path:
        return cache / "teachers" / digests.digest_json([VERSION, digest, tokens, features, *libraries, *head])

    folder = entry(features)
    fits = bytes_needed <= MAX_FEATURE_BYTES and (is_cached(folder) or bytes_needed <= disk.free_space(folder))
    if not fits:
        features, bytes_needed = [], 0
        folder = entry(features)
    bytes_needed += math.prod(_logits_shape(teacher, data)) * 4

    def compute(temporary: Path) -> dict[str, object]:
        _compute(teacher, data, features, temporary, device)
        return {"kind": "teacher-outputs", "features": features}

    with cached_folder(folder, bytes_needed, compute, "teacher's outputs"):
        logits = np.load(folder / "logits.npy")
        arrays = {feature: np.load(folder / _file(feature), mmap_mode="r") for feature in features}
    return TeacherOutputs(logits, arrays if fits else None, data.starts)


def _file(feature: Feature) -> str:
    return f"{feature[0]}-{feature[1]}.npy"


def _logits_shape(teacher: TransformersModel, data: Encoded) -> tuple[int, int]:
    if is_embedder_model(teacher):
        return len(data), vector_size(teacher)
    per_token = type(teacher).__name__.endswith(TOKEN_HEADS)
    return int(data.starts[-1]) if per_token else len(data), len(model_labels(teacher))


def _compute(teacher: TransformersModel, data: Encoded, features: list[Feature], folder: Path, device: torch.device) -> None:
    """Write the teacher's logits and features into a folder."""
    teacher.to(device)
    starts = data.starts
    arrays = {feature: _create_array(folder / _file(feature), (int(starts[-1]), feature_width(teacher, feature))) for feature in features}
    logits = np.empty(_logits_shape(teacher, data), dtype=np.float32)
    batches = evaluation_batches(data.lengths, BATCH)
    with console.progress("teacher's outputs", len(batches)) as advance, torch.inference_mode():
        for positions in batches:
            outputs, states = forward_with_features(teacher, to_tensors(data.batch(positions), teacher, device), features)
            batch_logits = logits_of(outputs).float().cpu().numpy()
            if batch_logits.ndim == 2:
                logits[positions] = batch_logits
            rows = {feature: tensor.half().cpu().numpy() for feature, tensor in states.items()}
            for row, i in enumerate(positions):
                tokens = slice(starts[i], starts[i + 1])
                if batch_logits.ndim == 3:
                    logits[tokens] = batch_logits[row, : starts[i + 1] - starts[i]]
                for feature, array in rows.items():
                    arrays[feature][tokens] = array[row, : starts[i + 1] - starts[i]]
            advance()
    for array in arrays.values():
        array.flush()
    np.save(folder / "logits.npy", logits)


def _create_array(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Create an array's file with all its disk blocks allocated: a disk that fills up under a mapped file would kill the process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    with path.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array
