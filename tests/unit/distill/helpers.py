"""What the tests of distillation share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill import run as distill
from compress.models.shape import LayerShape, Shape
from compress.settings import DistillSettings
from compress.stage import Inputs

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])


def states(seed: int, width: int = 8) -> torch.Tensor:
    """Return random hidden states, (3, 4, width), for `MASK`."""
    return torch.randn(3, 4, width, generator=torch.Generator().manual_seed(seed))


def inputs(teacher: Path, student: Path | str, document: dict[str, Any], *more: Path) -> Inputs:
    """Return the inputs of the stage."""
    return Inputs({}, 0, Task(resolve(document)), teacher, student, more)


def run(stage_inputs: Inputs, output: Path, **settings: Any) -> Any:
    """Run the stage for an epoch."""
    output.mkdir()
    options = {"precision": "fp32", "device": "cpu", "batch_size": 16, "lr": 1e-3, "epochs": 1, **settings}
    return distill(stage_inputs, DistillSettings.model_validate({key: value for key, value in options.items() if value is not ...}), output)


def uniform_shape(layers: int, hidden: int = 32, heads: int = 4, size: int = 8) -> Shape:
    """Return a shape of equal layers."""
    return Shape(hidden, size, (LayerShape(heads, 64),) * layers)
