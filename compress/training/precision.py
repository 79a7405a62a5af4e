"""Autocast, chosen by a measurement: bf16 pays on AMX, AVX512-BF16 and GPUs, and costs time elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import torch

from compress.core import console
from compress.core.caches import measured_once
from compress.core.machine import emulates_bf16
from compress.data.encoded import Encoded
from compress.models.checkpoint import model_shape
from compress.models.device import accepted_inputs
from compress.models.task_loss import logits_of
from compress.settings import TrainSettings
from compress.training.fast_steps import fast_steps

KEPT_PRODUCTS = 1024  # oneDNN's default
WORTH_IT = 1.1  # bf16 must be this much faster to be chosen
ROUNDS = 3


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast context of `fp32` (none) or `bf16`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def choose_precision(model: Any, data: Encoded, settings: TrainSettings, device: torch.device) -> str:
    """Return `fp32` or `bf16` for training; `auto` times both on a real batch, once per machine and shape.

    Casts cost as much in a narrow layer as in a wide one, so a pruned model may be faster in fp32 where its teacher was not. One with
    more `products` than are kept compiled is: its bf16 products would be compiled anew in every step.
    Nothing is timed where the processor would emulate bf16: that alone takes about twenty seconds.
    The choice is kept in the user's cache, so that a resumed run trains exactly as the first one would have.
    """
    if settings.precision != "auto":
        return settings.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if emulates_bf16() or products(model, data, settings.batch_size) > KEPT_PRODUCTS:
        return "fp32"
    shape = model_shape(model)
    if shape.lstm is not None:  # which autocast leaves as it is on a CPU
        return "fp32"
    facts = [torch.get_num_threads(), shape.hidden, shape.as_json()]
    return measured_once("precision", facts, lambda: _measure(model, data, settings.batch_size, device))[0]["precision"]


def _measure(model: Any, data: Encoded, batch_size: int, device: torch.device) -> dict[str, Any]:
    """Return the faster `precision` of a training step on the longest texts, and the `gain` of bf16 over fp32."""
    positions = np.argsort(data.lengths)[-min(16, batch_size) :]
    batch = {name: torch.from_numpy(array) for name, array in data.batch(positions).items()}
    with fast_steps(model, device, 0):
        seconds = _time_both(model, batch, device)
    gain = seconds["fp32"] / seconds["bf16"]
    precision = "bf16" if gain >= WORTH_IT else "fp32"
    console.info(f"  precision {precision}: a bf16 step runs {gain:.2f}x as fast as fp32 here")
    return {"precision": precision, "gain": gain}


def products(model: Any, data: Encoded, batch_size: int) -> int:
    """Return about how many different products a training computes: forward and two gradients of each size of linear and batch.

    oneDNN, which computes those in bf16 on a CPU, compiles each of them, and keeps the last `KEPT_PRODUCTS`.
    """
    sizes = {(module.in_features, module.out_features) for module in model.modules() if isinstance(module, torch.nn.Linear)}
    lengths = np.sort(data.lengths)[::-1][::batch_size]  # the longest of each batch, as they are bucketed
    return 3 * len(sizes) * len(np.unique(lengths))


def _time_both(model: Any, batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, float]:
    """Time a forward and backward pass in both precisions, interleaved; the fastest round of each counts."""
    inputs = accepted_inputs(model, batch)
    best = {"fp32": float("inf"), "bf16": float("inf")}
    state = torch.get_rng_state()
    for _ in range(ROUNDS + 1):  # the first round warms up both
        for precision in best:
            start = time.perf_counter()
            with autocast(precision, device):
                loss = logits_of(model(**inputs)).float().square().mean()
            loss.backward()
            best[precision] = min(best[precision], time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    return best
