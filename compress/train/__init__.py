"""Fine-tuning: the stage `finetune`, and the training loop that every training verb shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress import console
from compress.model.checkpoint import count_params, load_model, model_shape, save_model
from compress.model.config import read_config, target_of
from compress.model.device import Batch, pick_device
from compress.model.family import descend, family_of
from compress.model.objective import logits_of, task_loss
from compress.model.scorer import measure, torch_forward
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from compress.task.encode import encode_for
from compress.task.load import Task, overlap
from compress.train.loop import fit


def run(inputs: Inputs, settings: FinetuneSettings, output: Path) -> dict[str, Any]:
    """Fine-tune an encoder (or a model with a head) on the task, keep its best epoch on validation, write a checkpoint."""
    task, source, spec = inputs.task, inputs.source, inputs.task.spec
    device = pick_device(settings.device)
    torch.manual_seed(inputs.seed)  # the new head's initial weights
    model = load_model(source, labels=task.label_names, target=spec.target)
    train, validation = task.split("train"), task.split("validation")
    warn_overlap(task)
    asked = f", {len(task.label_names)} labels" if spec.target in ("class", "labels", "tags") else ""
    console.info(f"  {len(train)} training and {len(validation)} validation examples{asked}")
    data = encode_for(source, train, spec.reading)
    held_out = encode_for(source, validation, spec.reading)
    if spec.target == "value" and target_of(read_config(source)) != "value":
        start_at_mean(model, train.labels)
    classes = np.arange(len(task.label_names))

    def loss_of(batch: Batch, positions: Any) -> torch.Tensor:
        labels = torch.from_numpy(data.targets(positions)).to(device)
        return task_loss(logits_of(model(**batch)), labels, batch["attention_mask"], spec.target)

    def evaluate() -> dict[str, float]:
        return measure(torch_forward(model, device), held_out, validation, task, classes, "validating")

    fitted = fit(model, data, loss_of, settings, seed=inputs.seed, device=device, validate=lambda: evaluate()[spec.main_metric])
    metrics = evaluate()
    model.to("cpu")
    save_model(model, output, source)
    return {
        "metrics": {"validation": {"n": len(validation), **metrics}},
        "training": fitted.as_json(),
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
    }


def start_at_mean(model: Any, values: np.ndarray) -> None:
    """Let a new regression head start at the mean of the training values: its steps then go into what differs."""
    family = family_of(model.config.model_type)
    with torch.no_grad():
        descend(model, family.last_linear("value")).bias.fill_(float(values.mean()))


def warn_overlap(task: Task) -> None:
    """Warn where validation or test examples stand in the training data, too."""
    for name in ("validation", "test"):
        if name in task.available and (shared := overlap(task.split("train"), task.split(name))):
            console.warn(
                f"{shared} of {len(task.split(name))} {name} examples stand in the training data too: scores on them are flattering"
            )
