"""Open an ONNX artifact: a callable from texts to labels and scores. Needs onnxruntime and tokenizers only."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from compress import console, fs, machine
from compress.errors import ModelError, ResourceError
from compress.model.config import GRAPH, class_names, max_tokens, read_config
from compress.model.reference import locate
from compress.model.tokenizer import load_tokenizer, pad_id

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
Texts = str | tuple[str, str]
ManyTexts = list[str] | list[tuple[str, str]] | list[Texts]
EXTERNAL_DATA = b"\n\x08location"  # how a protobuf tensor names the file that holds its data


@dataclass(frozen=True)
class Prediction:
    """The most likely label of a text, and its probability."""

    label: str
    score: float


class OnnxModel:
    """An ONNX artifact, opened on first use with the session options that its `compress.json` records.

    Args:
        folder: the artifact.
        threads: of one inference; by default what ONNX Runtime chooses.
        device: `cpu` or `cuda`; there is no silent fall-back.
        hints: session options, in the place of the recorded ones (an artifact in the making has no manifest yet).

    Raises:
        ModelError: not an artifact, or a graph that cannot be opened.
        ResourceError: CUDA without its execution provider.
    """

    def __init__(self, folder: Path, threads: int | None = None, device: str = "cpu", hints: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self._hints = (fs.read_manifest(folder) or {}).get("runtime", {}) if hints is None else hints
        self.config = read_config(folder)
        self.labels = class_names(self.config)
        self._threads, self._device = threads, device
        self._lock = threading.Lock()

    @cached_property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`."""
        with self._lock:
            self._warn_of_saturation()
            return open_session(self.folder / GRAPH, self._threads, self._device, self._hints)

    def _warn_of_saturation(self) -> None:
        """Warn where 8-bit weights meet a processor that adds their products in 16 bits."""
        manifest = fs.read_manifest(self.folder) or {}
        if manifest.get("weights") == "int8 per channel" and not machine.wide_dot_products():
            console.warn(
                f"{self.folder.name} was quantized for a processor with int8 dot products, which this one lacks: check its accuracy here"
            )

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = load_tokenizer(self.folder, self.config["vocab_size"])
        manifest = fs.read_manifest(self.folder) or {}
        limit = min(manifest.get("max_length") or max_tokens(self.config), max_tokens(self.config))
        tokenizer.enable_truncation(limit)
        tokenizer.enable_padding(pad_id=pad_id(self.folder))
        return tokenizer

    @cached_property
    def logits(self) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        """The function from a padded batch of (batch, length) int64 arrays to (batch, classes) float32 logits."""
        return session_forward(self.session)

    def probabilities(self, texts: ManyTexts, batch_size: int = 32) -> np.ndarray:
        """Classify texts (or pairs of texts) in micro-batches sorted by length; returns (n, classes) in input order."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]) if isinstance(texts[i], str) else sum(map(len, texts[i])))
        result = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            positions = order[start : start + batch_size]
            encodings = self._tokenizer.encode_batch([texts[i] for i in positions])
            batch = {
                "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
                "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
                "token_type_ids": np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
            }
            result[positions] = softmax(self.logits(batch))
        return result

    @overload
    def __call__(self, texts: ManyTexts, batch_size: int = 32) -> list[Prediction]: ...

    @overload
    def __call__(self, texts: Texts, batch_size: int = 32) -> Prediction: ...

    def __call__(self, texts: Texts | ManyTexts, batch_size: int = 32) -> Prediction | list[Prediction]:
        """Return the prediction of a text (or pair), or a list of predictions for a list of them."""
        if isinstance(texts, list):
            found = self.probabilities(texts, batch_size)
            return [Prediction(self.labels[row.argmax()], float(row.max())) for row in found]
        row = self.probabilities([texts])[0]
        return Prediction(self.labels[row.argmax()], float(row.max()))


def load_onnx(reference: str | Path, threads: int | None = None, device: str = "cpu") -> OnnxModel:
    """Open an ONNX artifact folder; see `OnnxModel`."""
    folder = locate(reference)
    if not (folder / GRAPH).is_file():
        raise ModelError(f"{folder} has no {GRAPH}: it is not an ONNX artifact", "write one with: compress export MODEL -o DIR")
    return OnnxModel(folder, threads, device)


def open_session(graph: Path | bytes, threads: int | None, device: str, hints: dict[str, Any]) -> Any:
    """Open an `onnxruntime.InferenceSession` with `hints`: `disabled_optimizers` and `session_config` entries.

    Raises:
        ModelError: the graph cannot be opened, or keeps weights outside its folder.
        ResourceError: the device's execution provider is not there.
    """
    import onnxruntime

    provider = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise ResourceError(
            f"--device {device}: this ONNX Runtime has no {provider}",
            "use --device cpu, or install onnxruntime-gpu on a machine with a GPU",
        )
    if isinstance(graph, Path):
        _refuse_linked_weights(graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    for key, value in hints.get("session_config", {}).items():
        options.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(
            str(graph) if isinstance(graph, Path) else graph,
            options,
            providers=[provider],
            disabled_optimizers=hints.get("disabled_optimizers") or None,
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{graph if isinstance(graph, Path) else 'the graph'} cannot be opened: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != provider:
        raise ResourceError(f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}", "check the CUDA libraries")
    return session


def _refuse_linked_weights(graph: Path) -> None:
    """Refuse external data beside a graph that is a hard link: ONNX Runtime itself refuses `..`, absolute paths and symlinks."""
    with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        if contents.find(EXTERNAL_DATA) == -1:
            return
    linked = [path.name for path in graph.parent.iterdir() if path.is_file() and path.stat().st_nlink > 1]
    if linked:
        raise ModelError(f"External data of {graph}: {linked[0]} is a hard link to a file that may lie elsewhere", "copy the file instead")


def session_forward(session: Any) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Return a function from a padded batch of (batch, length) int64 arrays to (batch, classes) float32 logits."""
    names = [entry.name for entry in session.get_inputs()]
    return lambda batch: session.run(["logits"], {name: batch[name] for name in names})[0]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of (n, classes) logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
