"""Open an ONNX artifact: a callable from texts to answers, without torch."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from compress import console, fs, machine
from compress.errors import ModelError, ResourceError, UsageError
from compress.model.config import GRAPH, class_names, read_config
from compress.model.family import Target
from compress.model.reference import locate
from compress.model.tokenizer import load_tokenizer, pad_id
from compress.task.answers import Answer, describe_outputs, examples_of, softmax
from compress.task.encode import Encoded, encode_examples, ready_tokenizer
from compress.task.load import Examples
from compress.task.reading import reading_of

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
Texts = str | tuple[str, ...]
ManyTexts = list[str] | list[tuple[str, str]] | list[Texts]
BATCH_TOKENS = 4096  # of a micro-batch, padding included: bounds the memory of long texts
EXTERNAL_DATA = b"\n\x08location"  # how a protobuf tensor names the file that holds its data


class OnnxModel:
    """An ONNX artifact, opened on first use with the session options that its `compress.json` records.

    Threads may share one: session and tokenizer are opened once, and neither is changed after that.

    Args:
        folder: the artifact.
        threads: of one inference; by default what ONNX Runtime chooses.
        device: `cpu`, `cuda` or `tensorrt`; there is no silent fall-back.
        hints: session options, in the place of the recorded ones (an artifact in the making has no manifest yet).

    Raises:
        ModelError: not an artifact, or a graph that cannot be opened.
        ResourceError: CUDA without its execution provider.
    """

    def __init__(self, folder: Path, threads: int | None = None, device: str = "cpu", hints: dict[str, Any] | None = None) -> None:
        self.folder = folder
        manifest = fs.read_manifest(folder) or {}
        self._hints = manifest.get("runtime", {}) if hints is None else hints
        self.config = read_config(folder)
        self.labels = class_names(self.config)
        self.reading = reading_of(self.config, manifest)
        self._threads, self._device = threads, device
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer: Any = None

    @property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`, opened once by whichever thread asks first."""
        if self._session is None:
            with self._lock:
                if self._session is None:
                    self._warn_of_saturation()
                    self._session = open_session(self.folder / GRAPH, self._threads, self._device, self._hints)
        return self._session

    def _warn_of_saturation(self) -> None:
        """Warn where 8-bit weights meet a processor that adds their products in 16 bits."""
        manifest = fs.read_manifest(self.folder) or {}
        if manifest.get("weights") == "int8 per channel" and not machine.wide_dot_products():
            console.warn(
                f"{self.folder.name} was quantized for a processor with int8 dot products, which this one lacks: check its accuracy here"
            )

    @property
    def target(self) -> Target:
        """What the model answers with."""
        return self.reading.target

    @property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer`, opened once and set to cut inputs as the model was made for; leave it as it is."""
        if self._tokenizer is None:
            with self._lock:
                if self._tokenizer is None:
                    self._tokenizer = ready_tokenizer(load_tokenizer(self.folder, self.config["vocab_size"]), self.reading)
        return self._tokenizer

    @cached_property
    def _pad_id(self) -> int:
        return pad_id(self.folder)

    @cached_property
    def logits(self) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        """The function from a padded batch of (batch, length) int64 arrays to float32 logits.

        (batch, classes) of a text; (batch, length, tags) of its tokens; (batch, length, 2) of a span's ends.
        """
        return session_forward(self.session)

    def probabilities(self, texts: ManyTexts, batch_size: int = 32) -> np.ndarray:
        """Classify texts (or pairs of texts) in micro-batches of similar lengths; returns (n, classes) in input order.

        A micro-batch has at most `batch_size` texts and 4096 tokens, and is padded to its longest text.

        Raises:
            UsageError: the model does not answer with labels of a text.
        """
        if self.target not in ("class", "labels"):
            raise UsageError("this model answers with no labels of a text: call it for its answers")
        outputs = self._outputs(examples_of(texts, self.reading), batch_size)[0]
        return softmax(outputs) if self.target == "class" else 1 / (1 + np.exp(-outputs))

    def _outputs(self, examples: Examples, batch_size: int) -> tuple[np.ndarray, Encoded]:
        from compress.model.scorer import score

        data = encode_examples(self.tokenizer, examples, self.reading, self._pad_id)
        return score(self.logits, data, batch_size, max_tokens=BATCH_TOKENS), data

    @overload
    def __call__(self, texts: ManyTexts, batch_size: int = 32) -> list[Answer]: ...

    @overload
    def __call__(self, texts: Texts, batch_size: int = 32) -> Answer: ...

    def __call__(self, texts: Texts | ManyTexts, batch_size: int = 32) -> Answer | list[Answer]:
        """Return the answer to a text (or pair), or a list of answers to a list of them.

        By what the model answers with: a `Prediction`; a list of `Prediction` (several labels); a `Value`; a list of
        `TaggedWord`; a `Span` of the context, for (question, context). For tags a tuple holds words split already.
        """
        if not isinstance(texts, list):
            return self([texts])[0]
        if not texts:
            return []
        examples = examples_of(texts, self.reading)
        outputs, data = self._outputs(examples, batch_size)
        return describe_outputs(outputs, data, examples, self.reading, self.labels)


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
        refuse_linked_weights(graph)
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
            providers=list(dict.fromkeys([provider, *([PROVIDERS["cuda"]] if device == "tensorrt" else [])])),
            disabled_optimizers=hints.get("disabled_optimizers") or None,
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{graph if isinstance(graph, Path) else 'the graph'} cannot be opened: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != provider:
        raise ResourceError(f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}", "check the CUDA libraries")
    return session


def refuse_linked_weights(graph: Path) -> None:
    """Refuse external data beside a graph that is a hard link: ONNX Runtime and onnx refuse `..`, absolute paths and symlinks.

    Raises:
        ModelError: a hard link beside a graph that has external data.
    """
    if not graph.stat().st_size:
        return  # nothing to map; opening it will tell
    with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        if contents.find(EXTERNAL_DATA) == -1:
            return
    linked = [path.name for path in graph.parent.iterdir() if path.is_file() and path.stat().st_nlink > 1]
    if linked:
        raise ModelError(f"External data of {graph}: {linked[0]} is a hard link to a file that may lie elsewhere", "copy the file instead")


def session_forward(session: Any) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Return a function from a padded batch of (batch, length) int64 arrays to float32 logits; see `OnnxModel.logits`."""
    names = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]
    if outputs == ["start_logits", "end_logits"]:
        return lambda batch: np.stack(session.run(outputs, {name: batch[name] for name in names}), axis=-1)
    return lambda batch: session.run(["logits"], {name: batch[name] for name in names})[0]
