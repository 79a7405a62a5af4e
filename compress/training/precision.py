"""The precision of training: fp32 or bf16 autocast, chosen by measuring both.

bf16 is faster with AMX, AVX512-BF16 and on GPUs, and slower elsewhere.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np
import torch

from compress.core import console
from compress.core.caches import measured_once
from compress.core.machine import emulates_bf16
from compress.data.encoded import Encoded
from compress.models.device import Batch, to_tensors
from compress.models.model_shape import model_shape
from compress.models.task_loss import logits_of
from compress.models.types import TransformersModel
from compress.settings import TrainSettings
from compress.training.fast_steps import fast_steps

COMPILED_MATMULS = 1024  # oneDNN's default capacity
MIN_SPEEDUP = 1.1  # of bf16 over fp32, to choose it
ROUNDS = 3
TIMED_BATCH = 16


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the autocast context of `fp32` (none) or `bf16`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def choose_precision(model: TransformersModel, data: Encoded, settings: TrainSettings, device: torch.device) -> str:
    """Return `fp32` or `bf16` for training; `auto` on a CPU times both on a real batch, once per machine and model shape.

    A cast costs as much for a narrow layer as for a wide one, so a pruned model may be faster in fp32 even if its dense model is not.
    fp32 is chosen without timing if the processor only emulates bf16 (timing it takes 20 seconds), and if the training has more
    different matmuls than oneDNN keeps compiled, because bf16 matmuls would be compiled again in every step. The choice is cached, so a
    resumed run trains in the same precision.
    """
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    shape = model_shape(model)
    if emulates_bf16() or shape.without_layers is not None or count_matmul_shapes(model, data, settings.batch_size) > COMPILED_MATMULS:
        return "fp32"  # autocast changes neither an LSTM on a CPU nor a sum of embeddings
    facts = [torch.get_num_threads(), shape.hidden, shape.as_json()]
    return measured_once("precision", facts, lambda: _measure(model, data, settings.batch_size, device))[0]["precision"]


def _measure(model: TransformersModel, data: Encoded, batch_size: int, device: torch.device) -> dict[str, object]:
    """Return the faster `precision` for training steps on the longest texts, and the `gain`: the speedup of bf16 over fp32."""
    positions = np.argsort(data.lengths)[-min(TIMED_BATCH, batch_size) :]
    with fast_steps(model, device, 0):
        seconds = _time_precisions(model, to_tensors(data.batch(positions), model, device), device)
    speedup = seconds["fp32"] / seconds["bf16"]
    precision = "bf16" if speedup >= MIN_SPEEDUP else "fp32"
    console.info(f"  precision {precision}: a bf16 step is {speedup:.2f}x as fast as an fp32 step on this machine")
    return {"precision": precision, "gain": speedup}


def count_matmul_shapes(model: torch.nn.Module, data: Encoded, batch_size: int) -> int:
    """Return roughly how many different matmuls a training computes: forward and two gradients for each linear and batch length.

    oneDNN, which computes bf16 matmuls on a CPU, compiles each of them and keeps the last `COMPILED_MATMULS`.
    """
    sizes = {(module.in_features, module.out_features) for module in model.modules() if isinstance(module, torch.nn.Linear)}
    lengths = np.sort(data.lengths)[::-1][::batch_size]  # the longest text of each length-bucketed batch
    return 3 * len(sizes) * len(np.unique(lengths))


def _time_precisions(model: TransformersModel, batch: Batch, device: torch.device) -> dict[str, float]:
    """Return the seconds of a forward and backward pass in both precisions: the fastest of several interleaved rounds."""
    fastest = {"fp32": float("inf"), "bf16": float("inf")}
    state = torch.get_rng_state()
    for _ in range(ROUNDS + 1):  # the first round is a warm-up
        for precision in fastest:
            start = time.perf_counter()
            with autocast(precision, device):
                loss = logits_of(model(**batch)).float().square().mean()
            loss.backward()
            fastest[precision] = min(fastest[precision], time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    return fastest
