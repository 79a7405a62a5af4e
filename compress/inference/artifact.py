"""Open an ONNX artifact: a callable from texts to predictions, without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from compress.core import artifacts, console, machine
from compress.core.errors import ModelError, UsageError
from compress.data.encoded import Encoded
from compress.data.encoding import encode_examples, ready_tokenizer
from compress.data.examples import Examples
from compress.data.input_spec import Target
from compress.data.mentions import MentionPair
from compress.data.sentence_texts import single_texts
from compress.data.texts import examples_from_texts
from compress.inference.batches import Forward, run_batches
from compress.inference.canaries import check_outputs, read_canaries
from compress.inference.decoding import Output, describe_outputs, sigmoid, softmax
from compress.inference.onnx_session import open_session, session_forward
from compress.inference.openvino_session import openvino_forward
from compress.inference.processor import lacking_instruction_sets, saturates, warn_of_lacking, with_exact_products
from compress.inference.routes import ONNXRUNTIME, OPENVINO, recorded_runtimes, routed_forward, single_route
from compress.models.config import longest_input, read_config
from compress.models.config_heads import class_names
from compress.models.inputs import input_spec_of, prompts_of
from compress.models.layout import CANARIES, GRAPH, graph_file, is_graph
from compress.models.reference import locate
from compress.models.tokenizer import load_tokenizer, pad_id

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from compress.results import RuntimeHints

OneInput = str | tuple[str, ...] | MentionPair
ManyTexts = list[str] | list[tuple[str, str]] | list[MentionPair] | list[OneInput]
MAX_THREADS, MAX_BATCH = 1024, 65_536  # far more than any machine uses
BATCH_SIZE = 64  # texts of a micro-batch
BATCH_TOKENS = 4096  # most tokens of a micro-batch, padding included: limits the memory for long texts
# Tokens of a micro-batch per thread: more do not fit into the processor's caches, fewer waste time between operators.
TOKENS_PER_THREAD = {ONNXRUNTIME: 768, OPENVINO: 1024}


class OnnxModel:
    """An ONNX artifact, opened on first use in the runtime and with the options that its `compress.json` records.

    Threads may share one model: session and tokenizer are opened once and not changed afterwards.

    Args:
        folder: the artifact.
        threads: of one inference; by default the runtime's choice.
        device: `cpu`, `cuda` or `tensorrt`; there is no silent fallback. GPUs always use ONNX Runtime.
        hints: as in `compress.inference.routes`, instead of the recorded ones, for an artifact that has no manifest yet.
        check: compare each runtime, when it is opened, with the outputs recorded in the artifact (`compress.inference.canaries`).
        streams: micro-batches of a list that are computed at the same time, each by `threads` threads.

    Raises:
        ModelError: not an artifact, a graph that cannot be opened, or one that computes wrong outputs here.
        ResourceError: the execution provider of a GPU, or the recorded OpenVINO, is unavailable.
    """

    def __init__(
        self,
        folder: Path,
        threads: int | None = None,
        device: str = "cpu",
        hints: RuntimeHints | None = None,
        check: bool = True,
        streams: int = 1,
    ) -> None:
        self.folder = folder
        self._manifest = artifacts.read_manifest(folder) or {}
        self._hints: RuntimeHints = self._manifest.get("runtime", {}) if hints is None else hints
        self.config = read_config(folder)
        self.labels = class_names(self.config)
        self.input_spec = input_spec_of(self.config, self._manifest)
        self._threads = max(1, machine.cores() // streams) if threads is None and streams > 1 else threads
        self._device, self._check, self._streams = device, check, streams
        self._lock = threading.Lock()
        self._session: InferenceSession | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def session(self) -> InferenceSession:
        """The `onnxruntime.InferenceSession`, opened and checked once by the first thread that needs it."""
        if self._session is None:
            with self._lock:
                if self._session is None:
                    warn_of_lacking(self._manifest, self.folder)
                    hints = with_exact_products(self._hints) if self._device == "cpu" and saturates(self._manifest) else self._hints
                    session = open_session(graph_file(self.folder), self._threads, self._device, hints)
                    self._check_canaries(lambda: session_forward(session), ONNXRUNTIME, half=self._device == "tensorrt")
                    self._session = session
        return self._session

    def _check_canaries(self, forward: Callable[[], Forward], runtime: str, half: bool) -> None:
        """Compare a runtime's outputs with those recorded in the artifact, if there are any.

        Raises:
            ModelError: the outputs are wrong, or the file of recorded outputs is malformed.
        """
        if not self._check:
            return
        config = self.config
        canaries = read_canaries(self.folder, config["vocab_size"], longest_input(config, self.target), self._pad_id)
        if canaries is None:
            console.debug(f"{self.folder.name} has no {CANARIES}: it was written by an earlier version, and its outputs are not checked")
            return
        check_outputs(canaries, forward(), runtime, half, self.folder.name, lacking_instruction_sets(self._manifest))

    @property
    def target(self) -> Target:
        """What the model predicts."""
        return self.input_spec.target

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, opened once and set to truncate inputs to the model's length limit; do not change it."""
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

        (batch, classes) per text; (batch, length, tags) per token; (batch, length, 2) for the ends of a span; (batch, size) vectors.
        """
        return routed_forward(self._hints, self.open_runtime) if self._device == "cpu" else self.open_runtime(ONNXRUNTIME)

    def open_runtime(self, runtime: str, precision: str | None = None) -> Forward:
        """Return the same function in one runtime, `onnxruntime` or `openvino`, whatever the manifest records.

        Args:
            runtime: the runtime.
            precision: in which OpenVINO computes floats, `fp32` or `bf16`, instead of what the manifest records.
        """
        if runtime == ONNXRUNTIME:
            return session_forward(self.session)
        precision = precision or self._hints.get("openvino", {}).get("precision", "fp32")
        warn_of_lacking(self._manifest, self.folder)
        forward = openvino_forward(self.folder, precision, self._device, self._threads, self._streams)
        self._check_canaries(lambda: forward, OPENVINO, half=precision == "bf16")
        return forward

    def probabilities(self, texts: ManyTexts, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Classify texts (or pairs of texts) and return all probabilities, (n, classes), in input order.

        Texts of similar lengths form micro-batches of at most `batch_size` texts, and of the tokens that suit processor and runtime.

        Raises:
            UsageError: the model does not predict labels of a text.
        """
        if self.target not in ("class", "labels"):
            raise UsageError("this model predicts no labels of a text: call it for its predictions")
        outputs = self._outputs(examples_from_texts(texts, self.input_spec), batch_size)[0]
        return softmax(outputs) if self.target == "class" else sigmoid(outputs)

    def _outputs(self, examples: Examples, batch_size: int) -> tuple[np.ndarray, Encoded]:
        """Return the logits of examples, and the encoded examples."""
        check_count("batch_size", batch_size, MAX_BATCH)
        if self.target == "vector":
            examples = single_texts(examples, prompts_of(self.config, self.input_spec))
        data = encode_examples(self.tokenizer, examples, self.input_spec, self._pad_id)
        return run_batches(self.logits, data, batch_size, max_tokens=self.batch_tokens, streams=self._streams), data

    @cached_property
    def batch_tokens(self) -> int:
        """Largest number of tokens of a micro-batch, padding included."""
        if self._device != "cpu":
            return BATCH_TOKENS
        runtime = recorded_runtimes(self._hints)[-1]  # of the largest batches
        return min(BATCH_TOKENS, TOKENS_PER_THREAD[runtime] * (self._threads or machine.cores()))

    @overload
    def __call__(self, texts: ManyTexts, batch_size: int = BATCH_SIZE) -> list[Output]: ...

    @overload
    def __call__(self, texts: OneInput, batch_size: int = BATCH_SIZE) -> Output: ...

    def __call__(self, texts: OneInput | ManyTexts, batch_size: int = BATCH_SIZE) -> Output | list[Output]:
        """Return the prediction for a text (or pair), or a list of predictions for a list of them.

        By target: a `Prediction`; a list of `Prediction` (several labels); a `Value`; a list of `TaggedWord`; a `Span` of the
        context, for (question, context); a `Vector`, or of a pair the cosine of two vectors as a `Value`; an `Antecedent` for a
        mapping with a text, its pronoun and two names. For tags, a tuple holds the words of a text that is already split.
        """
        if not isinstance(texts, list):
            return self([texts])[0]
        if not texts:
            return []
        examples = examples_from_texts(texts, self.input_spec)
        outputs, data = self._outputs(examples, batch_size)
        return describe_outputs(outputs, data, examples, self.input_spec, self.labels)


def check_count(name: str, value: object, most: int) -> None:
    """Check that a value is a whole number from 1 to `most`.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value <= most:
        raise UsageError(f"{name} is {value!r}, not a whole number from 1 to {most}")


def load_onnx(
    reference: str | Path,
    threads: int | None = None,
    device: str = "cpu",
    runtime: str | None = None,
    check: bool = True,
    streams: int = 1,
) -> OnnxModel:
    """Open an ONNX artifact; see `OnnxModel`.

    Args:
        reference: a folder or a hub id.
        threads: of one inference; by default the runtime's choice.
        device: `cpu`, `cuda` or `tensorrt`.
        runtime: `onnxruntime` or `openvino`, instead of what the artifact records.
        check: compare its outputs, when it is opened, with those recorded in the artifact.
        streams: micro-batches of a list that are computed at the same time, each by `threads` threads (by default a share of the cores).

    Raises:
        UsageError: an unknown runtime.
        ModelError: not an ONNX artifact.
    """
    if runtime not in (None, ONNXRUNTIME, OPENVINO):
        raise UsageError(f"there is no runtime '{runtime}'", f"choose {ONNXRUNTIME} or {OPENVINO}")
    if threads is not None:
        check_count("threads", threads, MAX_THREADS)
    check_count("streams", streams, MAX_THREADS)
    folder = locate(reference)
    if not is_graph(folder):
        raise ModelError(f"{folder} has no {GRAPH}: it is not an ONNX artifact", "write one with: compress export MODEL -o DIR")
    hints: RuntimeHints = (artifacts.read_manifest(folder) or {}).get("runtime", {})
    return OnnxModel(folder, threads, device, {**hints, "routes": single_route(runtime)} if runtime else None, check, streams)
