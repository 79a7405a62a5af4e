"""Make BERT encoders small and fast: prune, distill, quantize, export, and measure the result."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from compress.core.version import __version__

# ONNX Runtime would keep records of its use in the home and temporary folders, and send them to its makers. Read at its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Names are imported on first use, so that `import compress` and `compress --help` import neither torch nor transformers.
_HOMES = {
    **dict.fromkeys(
        ("finetune", "prune", "factorize", "share", "distill", "export", "quantize", "evaluate", "bench", "run", "auto", "sweep"),
        "compress.api",
    ),
    "load_model": "compress.models.checkpoint",
    "load_onnx": "compress.inference.artifact",
    "CompressError": "compress.core.errors",
}

if TYPE_CHECKING:
    from compress.api import auto, bench, distill, evaluate, export, factorize, finetune, prune, quantize, run, share, sweep
    from compress.core.errors import CompressError
    from compress.inference.artifact import load_onnx
    from compress.models.checkpoint import load_model

__all__ = [
    "CompressError",
    "__version__",
    "auto",
    "bench",
    "distill",
    "evaluate",
    "export",
    "factorize",
    "finetune",
    "load_model",
    "load_onnx",
    "prune",
    "quantize",
    "run",
    "share",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compress' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """Keeps `compress.prune` the function: importing the package `compress.prune` would replace it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
