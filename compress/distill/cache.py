"""What the teacher says about every training example, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress import console, fs
from compress.model.checkpoint import model_shape
from compress.model.device import to_tensors
from compress.model.family import TOKEN_HEADS
from compress.model.objective import logits_of
from compress.task.encode import Encoded, evaluation_batches

MAX_HIDDEN_BYTES = 1 << 30  # larger hidden states are computed anew in every step instead
BATCH = 64
VERSION = 1


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's answers to a data set.

    `logits` is (n, classes) float32, or (tokens of all examples, logits) where every token has its own. `hidden` is
    (tokens of all examples, matched layers, width) float16, memory-mapped, or None where it would not fit. Example i's
    tokens are rows `starts[i] : starts[i + 1]`.
    """

    logits: np.ndarray
    hidden: np.ndarray | None
    starts: np.ndarray

    def logits_batch(self, positions: Sequence[int] | np.ndarray, like: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch, zero-padded to the shape of the student's (`like`)."""
        if like.ndim == 2:
            return torch.from_numpy(self.logits[np.asarray(positions, dtype=int)])
        batch = np.zeros(tuple(like.shape), dtype=np.float32)
        for row, i in enumerate(positions):
            of_example = self.logits[self.starts[i] : self.starts[i + 1]]
            batch[row, : len(of_example)] = of_example
        return torch.from_numpy(batch)

    def hidden_batch(self, positions: Sequence[int] | np.ndarray, tokens: int) -> torch.Tensor:
        """Return the hidden states of a batch, zero-padded to (batch, tokens, layers, width) float32."""
        assert self.hidden is not None  # noqa: S101 (the caller checked)
        batch = np.zeros((len(positions), tokens, *self.hidden.shape[1:]), dtype=np.float32)
        for row, i in enumerate(positions):
            states = self.hidden[self.starts[i] : self.starts[i + 1]]
            batch[row, : len(states)] = states
        return torch.from_numpy(batch)


def teacher_outputs(teacher: Any, digest: str, data: Encoded, hidden_layers: Sequence[int], device: torch.device) -> TeacherOutputs:
    """Return the teacher's outputs from the cache, or compute and cache them.

    The key holds the teacher's digest, every token id and the layers asked for, so that another teacher, another
    text or another maximum length never meets these outputs.

    Args:
        teacher: a classifier in evaluation mode.
        digest: of the teacher's weights.
        data: the examples.
        hidden_layers: numbers of the hidden states wanted (1 = after the first layer); may be empty.
        device: where to compute.

    Raises:
        ResourceError: the cache's disk is full.
    """
    lengths = data.lengths
    starts = data.starts
    width = model_shape(teacher).hidden
    hidden_bytes = int(starts[-1]) * len(hidden_layers) * width * 2
    wanted = list(hidden_layers) if hidden_bytes <= MAX_HIDDEN_BYTES else []
    tokens = fs.digest_bytes(b"".join(ids.tobytes() for ids in (*data.input_ids, *data.token_type_ids)) + lengths.tobytes())
    key = fs.digest_json([VERSION, digest, tokens, wanted])
    folder = fs.cache_root() / "teachers" / key
    with fs.locked(folder, wait=True):
        if fs.read_manifest(folder) is None:
            fs.check_space(folder, hidden_bytes if wanted else 0)
            with fs.atomic_folder(folder) as temporary:
                _compute(teacher, data, starts, wanted, width, temporary, device)
                fs.write_json(temporary / fs.MANIFEST, {"kind": "teacher-outputs", "key": key, "layers": wanted})
        else:
            console.info("  teacher's answers: from the cache")
        logits = np.load(folder / "logits.npy")
        hidden = np.load(folder / "hidden.npy", mmap_mode="r") if wanted else None
    return TeacherOutputs(logits, hidden, starts)


def _compute(teacher: Any, data: Encoded, starts: np.ndarray, layers: list[int], width: int, folder: Path, device: torch.device) -> None:
    teacher.to(device)
    hidden = None
    if layers:
        shape = (int(starts[-1]), len(layers), width)
        hidden = np.lib.format.open_memmap(folder / "hidden.npy", mode="w+", dtype=np.float16, shape=shape)
    per_token = type(teacher).__name__.endswith(tuple(TOKEN_HEADS))
    logits = np.empty((int(starts[-1]) if per_token else len(data), teacher.config.num_labels), dtype=np.float32)
    batches = evaluation_batches(data.lengths, BATCH)
    with console.progress("teacher's answers", len(batches)) as advance, torch.inference_mode():
        for positions in batches:
            outputs = teacher(**to_tensors(data.batch(positions), teacher, device), output_hidden_states=bool(layers))
            found = logits_of(outputs).float().cpu().numpy()
            if per_token:
                for row, i in enumerate(positions):
                    logits[starts[i] : starts[i + 1]] = found[row, : starts[i + 1] - starts[i]]
            else:
                logits[positions] = found
            if hidden is not None:
                states = torch.stack([outputs.hidden_states[number] for number in layers], dim=2).half().cpu().numpy()
                for row, i in enumerate(positions):
                    hidden[starts[i] : starts[i + 1]] = states[row, : starts[i + 1] - starts[i]]
            advance()
    if hidden is not None:
        hidden.flush()
    np.save(folder / "logits.npy", logits)
