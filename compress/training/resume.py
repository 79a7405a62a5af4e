"""Resuming a training that was killed: its whole state is written regularly and atomically.

One safetensors file per training holds the tensors; everything else is JSON in the file's metadata. The file is named after a
digest of what the training started from, so it is never mistaken for the state of another one.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from compress.core import console, digests, disk, files, processes
from compress.core.errors import ResourceError
from compress.core.files import Document
from compress.training.step_schedule import StepTimes

EVERY_SECONDS = 30.0  # between two writes
EPOCH_SECONDS = 5.0  # since the last write, at the end of an epoch
MAX_SHARE = 0.03  # maximum share of the time spent writing

Tensors = dict[str, torch.Tensor]


@dataclass
class Progress:
    """How far a training is: everything that changes except weights, optimizer moments and random number generators."""

    step: int = 0
    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the current epoch
    losses: list[float] = field(default_factory=list)  # of the current epoch
    mean_loss: float = math.nan  # of the last epoch
    best_epoch: int = 0
    best_score: float | None = None
    scores_since_best: int = 0
    seconds: float = 0.0  # used so far: of the time budget, which starts before training, or else by training
    precision: str = ""
    finished: bool = False
    step_times: StepTimes = field(default_factory=StepTimes)
    best_weights: Tensors | None = field(default=None, metadata={"tensors": True})

    def as_json(self) -> Document:
        """Return everything except the tensors."""
        document = {item.name: getattr(self, item.name) for item in fields(self) if not item.metadata}
        return document | {"step_times": asdict(self.step_times)}

    @staticmethod
    def from_json(document: Document, best_weights: Tensors | None = None) -> Progress:
        """Read what `as_json` wrote."""
        return Progress(**{**document, "step_times": StepTimes(**document["step_times"]), "best_weights": best_weights})


@dataclass
class TrainingState:
    """All that a bit-identical resumption needs: trained weights, optimizer moments, random number generators and progress."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    order: np.random.Generator  # shuffles the data
    dropout: np.random.Generator | None  # on a CPU; elsewhere PyTorch's generator draws dropout
    device: torch.device
    progress: Progress = field(default_factory=Progress)
    epoch_order: Document = field(default_factory=dict)  # state of `order` at the start of the current epoch

    def begin_epoch(self) -> None:
        """Record the state of `order` at the start of an epoch, or return to it if the epoch is resumed."""
        if self.progress.batch:
            self.order.bit_generator.state = self.epoch_order
        else:
            self.epoch_order = dict(self.order.bit_generator.state)

    def capture(self) -> tuple[Tensors, Document]:
        """Return the state as tensors and a JSON document."""
        tensors = {f"weight.{number}": p.detach() for number, p in enumerate(self.parameters)}
        for number, moments in ({} if self.progress.finished else self.optimizer.state_dict()["state"]).items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        tensors |= {f"best.{name}": value for name, value in (self.progress.best_weights or {}).items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        order = self.epoch_order if self.progress.batch else self.order.bit_generator.state
        dropout = self.dropout.bit_generator.state if self.dropout else None
        return tensors, {"progress": self.progress.as_json(), "order": order, "dropout": dropout}

    def restore(self, tensors: Tensors, document: Document) -> None:
        """Restore what `capture` returned."""
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"weight.{number}"])
        self.optimizer.load_state_dict({"state": _moments(tensors), "param_groups": self.optimizer.state_dict()["param_groups"]})
        best = {name: value.to(self.device) for name, value in _with_prefix("best", tensors).items()}
        self.progress = Progress.from_json(document["progress"], best or None)
        self.epoch_order = document["order"]
        self.order.bit_generator.state = document["order"]
        if processes.rank():
            return  # only the first process's random numbers were saved; the others start new ones
        if self.dropout and document["dropout"]:
            self.dropout.bit_generator.state = _lists_to_arrays(document["dropout"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


class StateFile:
    """The file that holds a training's state; without a folder nothing is written.

    Args:
        folder: for the states of a stage; created at the first write.
        fingerprint: identifies the training, see `training_fingerprint`.
    """

    def __init__(self, folder: Path | None, fingerprint: str = "") -> None:
        self.path = folder / f"{fingerprint[:32]}.safetensors" if folder else None
        self.last_write = time.monotonic()
        self.write_seconds = 0.0  # of the last write

    def load(self) -> tuple[Tensors, Document] | None:
        """Return the saved state, or None if there is no complete one. Of several processes only the first will save.

        Raises:
            ResourceError: the first process resumes from a state that this one cannot read.
        """
        path = self.path
        saved = self._read() if processes.rank() == 0 else None
        if processes.from_main(lambda: saved is not None) and processes.rank():
            saved = self._read()
            if saved is None:
                raise ResourceError(f"process {processes.rank()} cannot read {path}", "write the output to a disk that all machines share")
        if processes.rank():
            self.path = None
        return saved

    def _read(self) -> tuple[Tensors, Document] | None:
        if self.path is None:
            return None
        for temporary in self.path.parent.glob(f".{self.path.name}.tmp-*") if processes.rank() == 0 else ():
            temporary.unlink()  # its writer was killed: the output is locked, so nobody writes now
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                document = json.loads(file.metadata()["state"])
                return {name: file.get_tensor(name) for name in file.keys()}, document  # noqa: SIM118 (not a dictionary)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            console.warn(f"{self.path} is damaged and ignored ({error}): training starts from the beginning")
            return None

    def is_due(self, epoch_ended: bool = False) -> bool:
        """Return whether it is time for the next write."""
        elapsed = time.monotonic() - self.last_write
        return self.path is not None and elapsed >= max(EPOCH_SECONDS if epoch_ended else EVERY_SECONDS, self.write_seconds / MAX_SHARE)

    def save(self, tensors: Tensors, document: Document) -> None:
        """Replace the saved state; if the disk refuses it, warn and go on training without."""
        if self.path is None:
            return
        started = time.monotonic()
        try:
            self.path.parent.mkdir(exist_ok=True)
            needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            if shutil.disk_usage(self.path.parent).free < needed + disk.RESERVE_BYTES:
                raise OSError(f"it needs {needed >> 20} MiB and the disk does not have them")
            with files.atomic_file(self.path) as temporary:
                contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
                save_file(contiguous, temporary, {"state": json.dumps(document, default=np.ndarray.tolist)})
        except (OSError, SafetensorError) as error:
            console.warn(f"the training's state could not be saved ({error}): if training is killed, it starts from the beginning")
            self.path = None
        self.last_write = time.monotonic()
        self.write_seconds = self.last_write - started


def training_fingerprint(parameters: Iterable[nn.Parameter], facts: object) -> str:
    """Return a digest of the weights that a training starts from, and of the other facts (JSON) that determine its result."""
    fingerprint = hashlib.sha256(digests.digest_json(facts).encode())
    for parameter in parameters:
        fingerprint.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return fingerprint.hexdigest()


def _moments(tensors: Tensors) -> dict[int, Tensors]:
    """Return the optimizer's moments by number of the parameter."""
    moments: dict[int, Tensors] = {}
    for key, value in _with_prefix("optimizer", tensors).items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = value
    return moments


def _with_prefix(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _lists_to_arrays(state: Document) -> Document:
    """Convert the lists of a bit generator's state read from JSON to the arrays that numpy expects."""
    return {
        key: _lists_to_arrays(value) if isinstance(value, dict) else np.array(value, dtype=np.uint64) if isinstance(value, list) else value
        for key, value in state.items()
    }
