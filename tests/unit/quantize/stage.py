"""Running the stage `quantize` in tests."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from compress.data.presets import resolve
from compress.data.task import Task
from compress.settings import QuantizeSettings
from compress.stage import Inputs

module = importlib.import_module("compress.quantize")  # `compress.quantize` is the verb


def run(source: Path, output: Path, document: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Run the stage, by default dynamic."""
    output.mkdir()
    task = Task(resolve(document)) if document else None
    return module.run(Inputs({"model": source}, 0, task), QuantizeSettings.model_validate({"method": "dynamic", **settings}), output)
