"""Open an ONNX artifact: a callable from texts to answers, without torch."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from compress.core import artifacts, console, machine
from compress.core.errors import ModelError, UsageError
from compress.data.encoded import Encoded
from compress.data.encoding import encode_examples, ready_tokenizer
from compress.data.examples import Examples
from compress.data.input_spec import Target
from compress.data.texts import examples_from_texts
from compress.inference.batches import Forward, run_batches
from compress.inference.decoding import Answer, describe_outputs, softmax
from compress.inference.runtime import ONNXRUNTIME, OPENVINO, only, open_session, openvino_forward, routed, session_forward
from compress.models.config import class_names, read_config
from compress.models.inputs import input_spec_of
from compress.models.layout import GRAPH
from compress.models.reference import locate
from compress.models.tokenizer import load_tokenizer, pad_id

Texts = str | tuple[str, ...]
ManyTexts = list[str] | list[tuple[str, str]] | list[Texts]
BATCH_TOKENS = 4096  # of a micro-batch, padding included: bounds the memory of long texts


class OnnxModel:
    """An ONNX artifact, opened on first use in the runtime and with the options that its `compress.json` records.

    Threads may share one: session and tokenizer are opened once, and neither is changed after that.

    Args:
        folder: the artifact.
        threads: of one inference; by default what the runtime chooses.
        device: `cpu`, `cuda` or `tensorrt`; there is no silent fall-back, and GPUs are ONNX Runtime's.
        hints: as in `compress.inference.runtime`, in the place of the recorded ones (an artifact in the making has no manifest yet).

    Raises:
        ModelError: not an artifact, or a graph that cannot be opened.
        ResourceError: CUDA without its execution provider, OpenVINO where it is recorded and not installed.
    """

    def __init__(self, folder: Path, threads: int | None = None, device: str = "cpu", hints: dict[str, Any] | None = None) -> None:
        self.folder = folder
        manifest = artifacts.read_manifest(folder) or {}
        self._hints = manifest.get("runtime", {}) if hints is None else hints
        self.config = read_config(folder)
        self.labels = class_names(self.config)
        self.input_spec = input_spec_of(self.config, manifest)
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
        manifest = artifacts.read_manifest(self.folder) or {}
        if manifest.get("weights") == "int8 per channel" and not machine.wide_dot_products():
            console.warn(
                f"{self.folder.name} was quantized for a processor with int8 dot products, which this one lacks: check its accuracy here"
            )

    @property
    def target(self) -> Target:
        """What the model answers with."""
        return self.input_spec.target

    @property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer`, opened once and set to cut inputs as the model was made for; leave it as it is."""
        if self._tokenizer is None:
            with self._lock:
                if self._tokenizer is None:
                    self._tokenizer = ready_tokenizer(load_tokenizer(self.folder, self.config["vocab_size"]), self.input_spec)
        return self._tokenizer

    @cached_property
    def _pad_id(self) -> int:
        return pad_id(self.folder)

    @cached_property
    def logits(self) -> Forward:
        """The function from a padded batch of (batch, length) int64 arrays to float32 logits.

        (batch, classes) of a text; (batch, length, tags) of its tokens; (batch, length, 2) of a span's ends.
        """
        return routed(self._hints, self.opened) if self._device == "cpu" else self.opened(ONNXRUNTIME)

    def opened(self, runtime: str) -> Forward:
        """Return the same function in one runtime, `onnxruntime` or `openvino`, whatever the manifest recommends."""
        if runtime == ONNXRUNTIME:
            return session_forward(self.session)
        precision = self._hints.get("openvino", {}).get("precision", "fp32")
        return openvino_forward(self.folder, precision, self._device, self._threads)

    def probabilities(self, texts: ManyTexts, batch_size: int = 32) -> np.ndarray:
        """Classify texts (or pairs of texts) in micro-batches of similar lengths; returns (n, classes) in input order.

        A micro-batch has at most `batch_size` texts and 4096 tokens, and is padded to its longest text.

        Raises:
            UsageError: the model does not answer with labels of a text.
        """
        if self.target not in ("class", "labels"):
            raise UsageError("this model answers with no labels of a text: call it for its answers")
        outputs = self._outputs(examples_from_texts(texts, self.input_spec), batch_size)[0]
        return softmax(outputs) if self.target == "class" else 1 / (1 + np.exp(-outputs))

    def _outputs(self, examples: Examples, batch_size: int) -> tuple[np.ndarray, Encoded]:
        data = encode_examples(self.tokenizer, examples, self.input_spec, self._pad_id)
        return run_batches(self.logits, data, batch_size, max_tokens=BATCH_TOKENS), data

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
        examples = examples_from_texts(texts, self.input_spec)
        outputs, data = self._outputs(examples, batch_size)
        return describe_outputs(outputs, data, examples, self.input_spec, self.labels)


def load_onnx(reference: str | Path, threads: int | None = None, device: str = "cpu", runtime: str | None = None) -> OnnxModel:
    """Open an ONNX artifact folder; see `OnnxModel`.

    `runtime` is `onnxruntime` or `openvino`, in the place of what the artifact records.
    """
    if runtime not in (None, ONNXRUNTIME, OPENVINO):
        raise UsageError(f"there is no runtime '{runtime}'", f"choose {ONNXRUNTIME} or {OPENVINO}")
    folder = locate(reference)
    if not (folder / GRAPH).is_file():
        raise ModelError(f"{folder} has no {GRAPH}: it is not an ONNX artifact", "write one with: compress export MODEL -o DIR")
    hints = (artifacts.read_manifest(folder) or {}).get("runtime", {})
    return OnnxModel(folder, threads, device, hints | {"routes": only(runtime)} if runtime else None)
