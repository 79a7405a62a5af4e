"""Distributed training: several processes that train one model together, started by `torchrun` or `accelerate launch`.

The main process (rank 0) does what a single process would do: it locks, decides, validates, writes and prints. For a training it
summons the others; each computes the gradients of its shard of every batch, and all take the same step. The rest of the time the
others wait. Everything that is sent is a tensor or JSON.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from compress.core import console
from compress.core.errors import CompressError, Diverged, ResourceError
from compress.core.files import Document
from compress.core.system_errors import typed_errors

if TYPE_CHECKING:
    import numpy as np
    import torch

Returned = TypeVar("Returned")
LAUNCHED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what both launchers set
WAIT = timedelta(days=7)  # the others wait while the main process prunes, exports and measures
TINY = 1e-12


@dataclass
class _State:
    joined: bool = False
    together: bool = False


_state = _State()


def launched() -> int:
    """Return how many processes the launcher started."""
    return int(os.environ["WORLD_SIZE"]) if all(os.environ.get(name) for name in LAUNCHED_BY) else 1


def is_main() -> bool:
    """Return whether this is the main process, which locks, writes and prints."""
    return launched() == 1 or os.environ["RANK"] == "0"


def world_size() -> int:
    """Return how many processes take part now: 1 unless they were summoned to a training."""
    return launched() if _state.together else 1


def rank() -> int:
    """Return the rank of this process among those that take part, from 0."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def run_led(work: Callable[[], Document], part: Callable[[Document], None]) -> Document:
    """Return the result of `work` in every process: the main one runs it, the others do their `part` of what it summons them to.

    Raises:
        CompressError: whatever `work` raises, in the main process; the others just end.
        ResourceError: another process has ended.
    """
    if launched() == 1:
        with typed_errors():
            return work()
    _join()
    if not is_main():
        return _follow(part)
    try:
        with typed_errors():
            document = work()
    except CompressError as error:
        if not _state.together:  # the others wait to be called
            _sent({"failed": error.exit_code})
        raise
    _sent({"end": console.finite(document)})
    return document


def exit_process(code: int) -> None:
    """End a process of several, running its exit handlers; a single process continues.

    At the interpreter's normal exit, threads of the process group sometimes outlive their owner and the process aborts
    ("terminate called without an active exception"), so finished work would count as failed.
    """
    if _state.joined:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _follow(part: Callable[[Document], None]) -> Document:
    console.mute()
    while True:
        order = _sent(None)
        if "end" in order:
            return order["end"]
        if "failed" in order:
            raise SystemExit(0)  # the main process reports it; its exit code counts
        try:
            with _together():
                part(order)
        except Diverged:
            raise SystemExit(0) from None  # likewise


@contextmanager
def summon(order: Document) -> Iterator[None]:
    """Summon the other processes to what runs within this context; `order` is what they need to know. For the main process."""
    if launched() == 1:
        yield
        return
    _sent(order)
    with _together():
        yield


@contextmanager
def _together() -> Iterator[None]:
    _state.together = True
    yield
    _state.together = False  # not after a failure: the others do not wait for a summons then


def from_main(function: Callable[[], Returned]) -> Returned:
    """Return what `function` returns in the main process, which alone calls it; a JSON value."""
    if world_size() == 1:
        return function()
    return _sent(function() if rank() == 0 else None)


def shard(positions: np.ndarray) -> np.ndarray:
    """Return the positions of this process's shard of a batch: every n-th of n processes, so that each gets texts of all lengths."""
    return positions[rank() :: world_size()]


def broadcast(tensors: Sequence[torch.Tensor]) -> None:
    """Replace the values of tensors by those of the main process, in place."""
    if world_size() > 1:
        import torch
        from torch import distributed

        with _collective(), torch.no_grad():
            for tensor in tensors:
                distributed.broadcast(tensor.data, 0)


def all_reduce_gradients(parameters: Sequence[torch.nn.Parameter], loss: float, weight: float) -> float:
    """Replace each gradient by its weighted mean over the processes; returns the mean loss.

    With the number of examples (or of whatever the loss is a mean of) as `weight`, this is the gradient of the whole batch. A parameter
    without a gradient in all processes keeps none. Sparse gradients become dense.
    """
    if world_size() == 1:
        return loss
    import torch
    from torch import distributed

    flags = [float(parameter.grad is not None) for parameter in parameters]
    header = torch.tensor([weight, weight * loss, *flags], dtype=torch.float32, device=parameters[0].device)
    if weight == 0:
        header[1] = 0.0
    gradients = [torch.zeros_like(p) if p.grad is None else (p.grad.to_dense() * weight) for p in parameters]
    flat = torch.cat([header, *(gradient.reshape(-1).float() for gradient in gradients)])
    with _collective():
        distributed.all_reduce(flat)
    total, place = max(float(flat[0]), TINY), len(header)
    present = flat[2:place].tolist()
    for parameter, has_gradient in zip(parameters, present, strict=True):
        after = place + parameter.numel()
        parameter.grad = (flat[place:after].reshape(parameter.shape) / total).to(parameter.dtype) if has_gradient else None
        place = after
    return float(flat[1]) / total


def check_device(device: torch.device) -> None:
    """Refuse more processes on this machine than it has GPUs, if they compute on GPUs.

    Raises:
        ResourceError: there are fewer GPUs.
    """
    if world_size() > 1 and device.type == "cuda":
        import torch

        if _local() >= torch.cuda.device_count():
            raise ResourceError(
                f"process {_local() + 1} of this machine has no GPU of its own: there are {torch.cuda.device_count()}",
                "start as many processes as there are GPUs, or use --device cpu",
            )


def _local() -> int:
    return int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))


def _join() -> None:
    """Join the process group, once."""
    if _state.joined:
        return
    import torch
    from torch import distributed

    gpu = torch.cuda.is_available()
    if gpu and _local() < torch.cuda.device_count():
        torch.cuda.set_device(_local())
    with _collective():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=WAIT)
    _state.joined = True
    atexit.register(distributed.destroy_process_group)


def _sent(value: Any) -> Any:
    """Return the main process's value, a JSON value, in every process."""
    import numpy as np
    import torch
    from torch import distributed

    raw = np.frombuffer(json.dumps(value, default=str).encode(), dtype=np.uint8) if is_main() else np.zeros(0, dtype=np.uint8)
    count = torch.tensor([len(raw)])
    with _collective():
        distributed.broadcast(count, 0)
        data = torch.from_numpy(raw.copy()) if is_main() else torch.zeros(int(count), dtype=torch.uint8)
        distributed.broadcast(data, 0)
    return json.loads(data.numpy().tobytes())


@contextmanager
def _collective() -> Iterator[None]:
    """Report a process that has ended as such."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError("another process has ended, or cannot be reached", "its own message tells why; --debug shows ours") from error
