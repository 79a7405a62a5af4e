"""The verbs that a stage may `do`: their settings, the function that does the work, and what they make.

The functions are named by import path, so that torch is imported only when work starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from compress import settings
from compress.core import digests

# A stage's function: (Inputs, settings, folder to write) -> what its manifest tells.


@dataclass(frozen=True)
class Verb:
    """A row of the table."""

    name: str
    settings: type[settings.Settings]
    function: str  # module:function
    packages: tuple[str, ...]  # whose sources decide what the stage computes; also single files
    makes: Literal["checkpoint", "onnx", "measurement"]
    many: bool = False  # `from` may name several models
    needs_task: bool = True
    machine_bound: bool = False  # the result holds for the machine that made it
    together: bool = False  # several processes can do it together, see `compress.core.processes`

    def load(self, name: str | None = None) -> Callable[..., dict[str, Any]]:
        """Import and return the stage's function, or the one of another name beside it."""
        module, _, function = self.function.partition(":")
        return getattr(importlib.import_module(module), name or function)


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "finetune",
            settings.FinetuneSettings,
            "compress.training:run",
            ("core/processes.py", "data", "models", "inference", "editing", "training"),
            "checkpoint",
            together=True,
        ),
        Verb(
            "prune",
            settings.PruneSettings,
            "compress.prune:run",
            (
                "settings/distill_losses.py",
                "core/processes.py",
                "data",
                "models",
                "inference",
                "editing",
                "training",
                "distill",
                "export",
                "quantize",
                "benchmark",
                "prune",
            ),
            "checkpoint",
            machine_bound=True,
        ),
        Verb(
            "factorize",
            settings.FactorizeSettings,
            "compress.factorize:run",
            ("data", "models", "inference", "editing", "factorize"),
            "checkpoint",
        ),
        Verb("share", settings.ShareSettings, "compress.share:run", ("data", "models", "inference", "editing", "share"), "checkpoint"),
        Verb(
            "distill",
            settings.DistillSettings,
            "compress.distill:run",
            ("settings/distill_losses.py", "core/processes.py", "data", "models", "inference", "editing", "training", "distill"),
            "checkpoint",
            together=True,
        ),
        Verb(
            "export",
            settings.ExportSettings,
            "compress.export:run",
            ("data", "models", "inference", "editing", "export", "benchmark"),
            "onnx",
            needs_task=False,
            machine_bound=True,
        ),
        Verb(
            "quantize",
            settings.QuantizeSettings,
            "compress.quantize:run",
            ("data", "models", "inference", "editing", "export", "benchmark", "quantize"),
            "onnx",
            needs_task=False,
            machine_bound=True,
        ),
        Verb(
            "eval",
            settings.EvalSettings,
            "compress.benchmark.accuracy:run",
            ("data", "models", "inference", "editing", "benchmark"),
            "measurement",
            many=True,
            machine_bound=True,  # an int8 graph may answer differently on another processor
        ),
        Verb(
            "bench",
            settings.BenchSettings,
            "compress.benchmark.latency:run",
            ("data", "models", "inference", "editing", "benchmark"),
            "measurement",
            many=True,
            needs_task=False,
            machine_bound=True,
        ),
    )
}


@cache
def code_version(verb: str) -> str:
    """Return a digest of the sources that decide what a verb computes: another code, another cache key."""
    root = Path(__file__).parent.parent
    parts = [root / package for package in VERBS[verb].packages]
    paths = [path for part in parts for path in ([part] if part.suffix == ".py" else sorted(part.rglob("*.py")))]
    return digests.digest_json({str(path.relative_to(root)): digests.digest_file(path) for path in paths})
