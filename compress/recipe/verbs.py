"""The verbs that a stage may `do`: one row each with everything that recipes need to know about a verb.

Stages are named by import path, so that torch is imported only when a stage runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from compress import settings
from compress.settings import PruneSettings, Settings, TrainSettings

OutputKind = Literal["checkpoint", "onnx", "measurement"]
CHECKPOINT: tuple[OutputKind, ...] = ("checkpoint",)
ANY_MODEL: tuple[OutputKind, ...] = ("checkpoint", "onnx")
DATA_FILES = ("unlabeled",)  # settings, of any verb, that name a data file
MODEL_SETTINGS = ("augment_model",)  # settings, of any verb, that name a model


@dataclass(frozen=True)
class Verb:
    """A row of the table."""

    name: str
    settings: type[Settings]
    function: str  # the stage, as module:function: (Inputs, settings, folder to write) -> the document of the verb
    makes: OutputKind
    reads: tuple[OutputKind, ...] = CHECKPOINT  # kinds of models that it starts from
    roles: tuple[Literal["teacher", "student"], ...] = ()  # further inputs
    many: bool = False  # `from` may name several models
    needs_task: bool = True
    needs_validation: bool = False  # refused before any work if the task has no validation split
    machine_bound: bool = False  # the result is valid only for the machine that it was made on
    distributed: bool = False  # several processes can run it together, see `compress.core.processes`
    gate: str | None = None  # the gate of a recipe that its result is checked against

    def load(self, name: str | None = None) -> Callable[..., Mapping[str, object]]:
        """Import and return the stage's function, or another function of its module."""
        module, _, function = self.function.partition(":")
        return getattr(importlib.import_module(module), name or function)


_ROWS = (
    Verb("finetune", settings.FinetuneSettings, "compress.training:run", "checkpoint", distributed=True),
    Verb("prune", settings.PruneSettings, "compress.prune:run", "checkpoint", machine_bound=True),
    Verb("factorize", settings.FactorizeSettings, "compress.factorize:run", "checkpoint"),
    Verb("share", settings.ShareSettings, "compress.share:run", "checkpoint"),
    Verb(
        "distill",
        settings.DistillSettings,
        "compress.distill:run",
        "checkpoint",
        roles=("teacher", "student"),
        needs_validation=True,  # it selects the best epoch, whatever the student learns from
        distributed=True,
    ),
    Verb("export", settings.ExportSettings, "compress.export:run", "onnx", needs_task=False, machine_bound=True),
    Verb("quantize", settings.QuantizeSettings, "compress.quantize:run", "onnx", reads=ANY_MODEL, needs_task=False, machine_bound=True),
    Verb(
        "eval",
        settings.EvalSettings,
        "compress.benchmark.accuracy:run",
        "measurement",
        reads=ANY_MODEL,
        many=True,
        machine_bound=True,  # predictions of an int8 graph can differ between processors
        gate="max_drop",
    ),
    Verb(
        "bench",
        settings.BenchSettings,
        "compress.benchmark.latency:run",
        "measurement",
        reads=ANY_MODEL,
        many=True,
        needs_task=False,
        machine_bound=True,
        gate="min_speedup",
    ),
)
VERBS: dict[str, Verb] = {verb.name: verb for verb in _ROWS}


def reads(verb: Verb, values: Settings) -> tuple[OutputKind, ...]:
    """Return the kinds of models that a stage starts from: with a layout, `export` also writes an artifact again."""
    return ANY_MODEL if getattr(values, "layout", "compress") != "compress" else verb.reads


def seeds_of(values: Settings) -> list[int]:
    """Return the seeds of a stage that trains with several of them; else an empty list."""
    return list(values.seeds or ()) if isinstance(values, TrainSettings) else []


def has_budget(values: Settings) -> bool:
    """Return whether a time budget limits the training: how far it gets depends on the machine."""
    return isinstance(values, TrainSettings) and values.budget is not None


def model_folders(values: Settings) -> list[str]:
    """Return the names of the models of a stage that writes several, `best` and `median` of several seeds included."""
    if seeds := seeds_of(values):
        return ["best", "median", *(f"seed-{seed}" for seed in seeds)]
    targets = sorted(set(values.target_speedup or ())) if isinstance(values, PruneSettings) else []
    return [f"{target:.3g}x" for target in targets] if len(targets) > 1 else []


def named_by(values: Settings, names: tuple[str, ...]) -> dict[str, str]:
    """Return those settings among `names` that are set, by name."""
    given = {name: getattr(values, name, None) for name in names}
    return {name: value for name, value in given.items() if value}
