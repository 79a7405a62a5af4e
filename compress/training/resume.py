"""Going on inside a training that was killed: its whole state, written every so often, whole or not at all.

One safetensors file a training: the tensors, and all else as JSON in the file's own metadata. Its name is a digest of what the
training started from, so that it is never taken for the state of another one.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from compress.core import console, digests, disk, files, processes
from compress.core.errors import ResourceError

EVERY_SECONDS = 30.0  # between two writes
EPOCH_SECONDS = 5.0  # since the last write, at the end of an epoch
MAX_SHARE = 0.03  # of the time may go into writing

Tensors = dict[str, torch.Tensor]


@dataclass
class Progress:
    """How far a training is: all that changes in it beside weights, moments and sources of randomness."""

    step: int = 0
    epoch: int = 0  # epochs that are done
    batch: int = 0  # batches of the epoch under way that are done
    losses: list[float] = field(default_factory=list)  # of the epoch under way
    mean_loss: float = math.nan  # of the last epoch
    best_epoch: int = 0
    best_score: float | None = None
    worse: int = 0  # scores since the best
    seconds: float = 0.0
    spent: float = 0.0  # seconds of a budget, those before training included
    precision: str = ""
    finished: bool = False
    pace: dict[str, float] = field(default_factory=dict)  # what a time budget has measured
    best: Tensors | None = field(default=None, metadata={"tensors": True})

    def as_json(self) -> dict[str, Any]:
        """Return everything but the tensors."""
        return {item.name: getattr(self, item.name) for item in fields(self) if not item.metadata}


@dataclass
class State:
    """What going on bit by bit needs: the trained weights, the optimizer's moments, and where every random source stands."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    order: np.random.Generator  # of the data
    dropout: np.random.Generator | None  # on a CPU; PyTorch's own otherwise
    device: torch.device
    progress: Progress = field(default_factory=Progress)
    epoch_order: dict[str, Any] = field(default_factory=dict)  # where `order` stood when the epoch under way was drawn

    def begin_epoch(self) -> None:
        """Note where the order of an epoch starts; an epoch that is gone on with starts there again."""
        if self.progress.batch:
            self.order.bit_generator.state = self.epoch_order
        else:
            self.epoch_order = dict(self.order.bit_generator.state)

    def capture(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state as tensors and a JSON document."""
        tensors = {f"weight.{number}": p.detach() for number, p in enumerate(self.parameters)}
        for number, moments in ({} if self.progress.finished else self.optimizer.state_dict()["state"]).items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        tensors |= {f"best.{name}": value for name, value in (self.progress.best or {}).items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        order = self.epoch_order if self.progress.batch else self.order.bit_generator.state
        dropout = self.dropout.bit_generator.state if self.dropout else None
        return tensors, {"progress": self.progress.as_json(), "order": order, "dropout": dropout}

    def restore(self, tensors: Tensors, document: dict[str, Any]) -> None:
        """Put everything back as `capture` found it."""
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"weight.{number}"])
        moments: dict[int, Tensors] = {}
        for key, value in _below("optimizer", tensors).items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.progress = Progress(**document["progress"], best=_below("best", tensors) or None)
        if self.progress.best:
            self.progress.best = {name: value.to(self.device) for name, value in self.progress.best.items()}
        self.epoch_order = document["order"]
        self.order.bit_generator.state = document["order"]
        if self.dropout and document["dropout"] and not processes.rank():
            self.dropout.bit_generator.state = _as_numpy(document["dropout"])
        if processes.rank():
            return  # the first process's randomness; here it starts anew
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


class Snapshots:
    """The file that holds a training's state; without a folder nothing is kept.

    Args:
        folder: of the stage's states; made when the first is written.
        identity: names the training, see `identity_of`.
    """

    def __init__(self, folder: Path | None, identity: str = "") -> None:
        self.path = folder / f"{identity[:32]}.safetensors" if folder else None
        self.last = time.monotonic()
        self.cost = 0.0  # seconds of the last write

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return what was saved, or None where there is nothing whole; only the first of several processes will save.

        Raises:
            ResourceError: the first process goes on from a state that this one cannot read.
        """
        path = self.path
        saved = self._read() if processes.rank() == 0 else None
        if processes.from_main(lambda: saved is not None) and processes.rank():
            saved = self._read()
            if saved is None:
                raise ResourceError(f"process {processes.rank()} cannot read {path}", "put the output on a disk that all machines see")
        if processes.rank():
            self.path = None
        return saved

    def _read(self) -> tuple[Tensors, dict[str, Any]] | None:
        if self.path is None:
            return None
        for half in self.path.parent.glob(f".{self.path.name}.tmp-*") if processes.rank() == 0 else ():
            half.unlink()  # its writer was killed: the output is locked
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                document = json.loads(file.metadata()["state"])
                return {name: file.get_tensor(name) for name in file.keys()}, document  # noqa: SIM118 (not a dictionary)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            console.warn(f"{self.path} is damaged and not used ({error}): training starts from its beginning")
            return None

    def due(self, epoch_ended: bool = False) -> bool:
        """Tell whether it is time to write again."""
        since = time.monotonic() - self.last
        return self.path is not None and since >= max(EPOCH_SECONDS if epoch_ended else EVERY_SECONDS, self.cost / MAX_SHARE)

    def save(self, tensors: Tensors, document: dict[str, Any]) -> None:
        """Write the state in the place of the last one; a disk that does not take it is no reason to stop training."""
        if self.path is None:
            return
        started = time.monotonic()
        try:
            self.path.parent.mkdir(exist_ok=True)
            needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            if shutil.disk_usage(self.path.parent).free < needed + disk.RESERVE_BYTES:
                raise OSError(f"it needs {needed >> 20} MiB and the disk has no room for them")
            with files.atomic_file(self.path) as temporary:
                own = {name: tensor.contiguous() for name, tensor in tensors.items()}
                save_file(own, temporary, {"state": json.dumps(document, default=np.ndarray.tolist)})
        except (OSError, SafetensorError) as error:
            console.warn(f"the state of the training could not be kept ({error}): if it is killed, it starts from its beginning")
            self.path = None
        self.last = time.monotonic()
        self.cost = self.last - started


def identity_of(parameters: Iterable[nn.Parameter], facts: Any) -> str:
    """Return a digest of the weights that a training starts from, and of whatever else it depends on."""
    found = hashlib.sha256(digests.digest_json(facts).encode())
    for parameter in parameters:
        found.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _below(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _as_numpy(state: dict[str, Any]) -> dict[str, Any]:
    """Turn the lists within a bit generator's state, as JSON has them, into what numpy takes."""
    return {
        key: _as_numpy(value) if isinstance(value, dict) else np.array(value, dtype=np.uint64) if isinstance(value, list) else value
        for key, value in state.items()
    }
