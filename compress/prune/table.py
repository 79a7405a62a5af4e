"""What every sublayer costs in the runtime that will serve the model: a measured latency table.

A few small models are timed, interleaved, and each sublayer's time follows from differences: layers of heads alone,
layers of FFNs alone, and single layers, whose text classifier computes one token only. Times between the measured
sizes are interpolated. The table is kept in the user's cache, by machine, runtime and dimensions.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from compress import console, fs, machine
from compress.errors import UsageError
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.measure.latency import quick_speedup, random_batch
from compress.measure.runners import openvino_forward
from compress.model import shape as shapes
from compress.model.artifact import open_session, session_forward
from compress.model.checkpoint import model_shape, resize
from compress.model.config import GRAPH
from compress.model.family import TOKEN_HEADS, family_of
from compress.model.scorer import Forward, torch_forward
from compress.prune.search import ALIGNMENT, Costs
from compress.quantize import quantized_graph
from compress.quantize.dynamic import needs_seven_bits

VERSION = 2
DEPTH = 4  # layers of a timed model: enough to tell one from noise, few enough for memory
VOCABULARY = 1024  # of a timed model: what is looked up costs nothing, what is built does
ROUNDS = 20
HEAD_LEVELS = 6
WIDTHS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)
MIXED = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # sizes of models of heads and neurons, as shares of the largest
CREDIBLE = (0.5, 2.0)  # factors beyond these are noise
Shape = tuple[tuple[int, int], ...]  # (heads, ffn) of each layer


@dataclass(frozen=True)
class Serving:
    """How the model will be served, which is what is timed."""

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    batch_size: int = 1
    seq_len: int = 32
    threads: int = 1

    def describe(self) -> str:
        """Return the circumstances in words."""
        name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "pytorch": "PyTorch"}[self.runtime]
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{name} {self.precision}, batch {self.batch_size}, length {self.seq_len}, {threads}"

    def open(self, model: Any) -> Forward:
        """Open a model in this runtime and precision, without leaving files.

        Raises:
            UsageError: the runtime has no such precision here.
            ResourceError: the runtime is not installed.
        """
        if self.runtime == "pytorch":
            return _torch_forward(model, self.precision, self.threads)
        if self.runtime == "openvino":
            with tempfile.TemporaryDirectory() as scratch:
                onnx.save(build_graph(model), str(Path(scratch) / GRAPH))
                return openvino_forward(Path(scratch), self.precision, "cpu", self.threads)
        graph = build_graph(model)
        if self.precision == "int8":
            with tempfile.TemporaryDirectory() as scratch:
                onnx.save(graph, str(Path(scratch) / GRAPH))
                graph = quantized_graph(Path(scratch) / GRAPH, Path(scratch) / "int8.onnx", needs_seven_bits())
        return session_forward(open_session(graph.SerializeToString(), self.threads, "cpu", RUNTIME_HINTS))

    def batch(self, vocab_size: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Return full rows of random tokens, (batch_size, seq_len)."""
        return random_batch(np.random.default_rng(seed), vocab_size, self.batch_size, self.seq_len)


def check_serving(serving: Serving) -> None:
    """Refuse what the runtime cannot do.

    Raises:
        UsageError: a precision that the runtime does not have.
    """
    able = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16"), "pytorch": ("fp32", "bf16")}[serving.runtime]
    if serving.precision not in able:
        raise UsageError(
            f"{serving.runtime} runs no {serving.precision} on CPUs here", f"its precisions: {', '.join(able)}; or choose another --runtime"
        )


def _torch_forward(model: Any, precision: str, threads: int) -> Forward:
    forward = torch_forward(model.eval())

    def limited(batch: dict[str, np.ndarray]) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return forward(batch)
        finally:
            torch.set_num_threads(before)

    return limited


def latency_table(model: Any, serving: Serving) -> Costs:
    """Return what a model's sublayers cost in milliseconds, from the cache or measured.

    Args:
        model: dense or pruned; its dimensions count, not its weights, and it is not changed.
        serving: what is timed.
    """
    family, config = family_of(model.config.model_type), model.config
    shape = model_shape(model)
    heads = max(getattr(config, family.heads_key), *(layer.heads for layer in shape.layers))
    ffn = max(getattr(config, family.ffn_key), *(layer.ffn for layer in shape.layers))
    dimensions = [config.model_type, type(model).__name__, shape.hidden, shape.head_size, heads, ffn]
    facts = [VERSION, dimensions, asdict(serving), machine.identity(), machine.versions()]
    path = fs.cache_root() / "latency" / f"{fs.digest_json(facts)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _costs(fs.read_json(path)["measured"], heads, ffn)
    console.info(f"  timing sublayers: {serving.describe()}")
    first_token = not type(model).__name__.endswith(tuple(TOKEN_HEADS))
    measured = measure_table(lambda wanted: _times(model, serving, wanted), heads, ffn, first_token)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_json(path, {"measured": measured, "facts": facts})
    except OSError as error:
        console.warn(f"the latency table could not be cached in {path.parent}: {error.strerror}")
    return _costs(measured, heads, ffn)


def measure_table(times: Callable[[Sequence[Shape]], np.ndarray], heads: int, ffn: int, first_token: bool) -> dict[str, Any]:
    """Solve the times of small models for the times of their sublayers.

    With `fixed` the time of a model without any layer's work, `a`, `f` the times of an attention and an FFN sublayer,
    and a dash where only the first token is computed, n layers of h heads without neurons take
    `fixed + (n - 1) (a(h) + f(0)) + a'(h)`; FFNs of w neurons below one head take
    `fixed + (n - 1) (a(0) + f(w)) + a'(1)`; one layer takes `fixed + a'(h) + f'(w)`. Sublayers without units still add
    their bias and normalise: `a(0) = f(0)`. Models of both kinds, at a few sizes, then tell by what factor sublayers take
    longer (or less long) together than alone.

    Args:
        times: seconds of models of given shapes, (models,), measured together.
        heads: most heads of a layer.
        ffn: widest FFN.
        first_token: whether the last layers compute the first token only.

    Returns:
        `head_levels`, `widths` and, at these, `heads`, `neurons`, `last_heads`, `last_neurons` in milliseconds; `fixed`;
        `factors` at `shares` of the units.
    """
    head_levels = sorted({max(1, round(heads * part / HEAD_LEVELS)) for part in range(1, HEAD_LEVELS + 1)})
    widths = sorted({min(ffn, max(ALIGNMENT, round(ffn * part / ALIGNMENT) * ALIGNMENT)) for part in WIDTHS})
    n = DEPTH
    top = ((1, 0),)
    mixed = [(max(1, round(heads * part)), min(ffn, max(ALIGNMENT, round(ffn * part / ALIGNMENT) * ALIGNMENT))) for part in MIXED]
    if first_token:
        problems = [((0, 0),) * n, ((0, 0),) * (n - 1) + top]
        problems += [((h, 0),) * n for h in head_levels] + [((0, w),) * (n - 1) + top for w in widths]
        problems += [((h, 0),) for h in head_levels] + [((1, w),) for w in widths] + [top]
        found = 1e3 * times([*problems, *((size,) * n for size in mixed)])
        whole, found = found[len(problems) :], found[: len(problems)]
        fixed, low = found[0], found[1]
        tall_heads, tall_widths, single_heads, single_widths, (single,) = _split(found[2:], head_levels, widths, head_levels, widths, [0])
        last_heads = np.maximum(single_heads - fixed, 0)
        last_one = max(0.0, single - fixed)
        gone = max(0.0, (low - fixed - last_one) / (n - 1)) / 2
        attention = (tall_heads - fixed - last_heads) / (n - 1) - gone
        feed = (tall_widths - fixed - last_one) / (n - 1) - gone
        last_feed = np.maximum(single_widths - single, 0)
    else:
        problems = [((0, 0),) * n, ((0, 0),), *(((h, 0),) * n for h in head_levels), *(((0, w),) * n for w in widths)]
        found = 1e3 * times([*problems, *((size,) * n for size in mixed)])
        whole, found = found[len(problems) :], found[: len(problems)]
        gone = max(0.0, (found[0] - found[1]) / (n - 1)) / 2
        fixed = max(0.0, found[1] - 2 * gone)
        tall_heads, tall_widths = _split(found[2:], head_levels, widths)
        attention, feed = (tall_heads - fixed) / n - gone, (tall_widths - fixed) / n - gone
        last_heads, last_feed = attention, feed
    table = {
        "head_levels": [0, *head_levels],
        "widths": [0, *widths],
        "heads": [gone, *np.maximum(attention, gone).tolist()],
        "neurons": [gone, *np.maximum(feed, gone).tolist()],
        "last_heads": [0.0 if first_token else gone, *last_heads.tolist()],
        "last_neurons": [0.0 if first_token else gone, *last_feed.tolist()],
        "fixed": float(fixed),
        "first_token": first_token,
        "shares": list(MIXED),
        "factors": [1.0] * len(MIXED),
    }
    costs = _costs(table, heads, ffn)
    summed = [costs.total(shapes.Shape(0, 0, (shapes.LayerShape(*size),) * n)) for size in mixed]
    factors = [(time - fixed) / max(total - fixed, 1e-9) for time, total in zip(whole.tolist(), summed, strict=True)]
    return table | {"factors": np.clip(factors, *CREDIBLE).tolist()}


def _split(values: np.ndarray, *parts: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum([len(part) for part in parts])[:-1])


def _costs(measured: dict[str, Any], heads: int, ffn: int) -> Costs:
    """Interpolate a measured table to every number of units; more units never cost less."""

    def filled(name: str, levels: str, size: int) -> np.ndarray:
        alone = np.interp(np.arange(size + 1), measured[levels], np.maximum.accumulate(measured[name]))
        together = np.interp(np.arange(size + 1) / size, measured["shares"], measured["factors"])
        return np.maximum.accumulate(alone * together)

    over_heads, over_neurons = filled("heads", "head_levels", heads), filled("neurons", "widths", ffn)
    if not measured["first_token"]:
        return Costs(over_heads, over_neurons, measured["fixed"])
    last = filled("last_heads", "head_levels", heads), filled("last_neurons", "widths", ffn)
    return Costs(over_heads, over_neurons, measured["fixed"], last)


def _times(model: Any, serving: Serving, wanted: Sequence[Shape]) -> np.ndarray:
    """Time models of the wanted shapes in turns; returns seconds, (models,).

    Each is compared with one reference, the largest, in the same rounds, so that a machine that slows down on the way
    does not bend the table.
    """
    batch = serving.batch(VOCABULARY)
    largest = max(wanted, key=lambda shape: sum(heads * 4096 + ffn for heads, ffn in shape))
    reference = serving.open(skeleton(model, largest))
    for _ in range(3):
        reference(batch)
    shares = np.ones(len(wanted))
    with console.progress("timing sublayers", len(wanted)) as advance:
        for number, shape in enumerate(wanted):
            if shape != largest:
                shares[number] = 1 / quick_speedup(reference, serving.open(skeleton(model, shape)), batch, ROUNDS)[0]
            advance()
    return shares * seconds_of(reference, batch)


def seconds_of(forward: Forward, batch: dict[str, np.ndarray], rounds: int = ROUNDS) -> float:
    """Return the median seconds of a forward function on a batch, caches warm."""
    from compress.measure.runners import ClockRunner

    runner = ClockRunner(forward)
    return float(np.median([runner.seconds(batch) for _ in range(rounds + 3)][3:]))


def skeleton(model: Any, wanted: Shape) -> Any:
    """Return a model of other layers and few words, with random weights: what it computes is nothing, its time is real."""
    import transformers

    family = family_of(model.config.model_type)
    config = copy.deepcopy(model.config.to_dict())
    config.pop(shapes.CONFIG_KEY, None)
    config[family.layers_key] = len(wanted)
    config["vocab_size"] = max(VOCABULARY, (config.get("pad_token_id") or 0) + 1)
    shape = model_shape(model)
    small = getattr(transformers, type(model).__name__)(transformers.AutoConfig.for_model(**config))
    resize(small, shapes.Shape(shape.hidden, shape.head_size, tuple(shapes.LayerShape(heads, ffn) for heads, ffn in wanted)))
    with torch.no_grad():
        for parameter in small.parameters():  # no denormal numbers, which slow a processor down
            parameter.normal_(std=0.02)
    return small.eval()
