"""Fine-tuning: the stage `finetune`, and the training loop that every training verb shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from compress import console
from compress.model.checkpoint import count_params, load_model, model_shape, save_model
from compress.model.device import Batch, pick_device
from compress.model.scorer import score, torch_forward
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from compress.task.encode import encode_for
from compress.task.load import Task, overlap
from compress.task.metrics import compute
from compress.train.loop import fit


def run(inputs: Inputs, settings: FinetuneSettings, output: Path) -> dict[str, Any]:
    """Fine-tune an encoder (or a classifier) on the task, keep its best epoch on validation, write a checkpoint."""
    task, source = inputs.task, inputs.source
    device = pick_device(settings.device)
    torch.manual_seed(inputs.seed)  # the new head's initial weights
    model = load_model(source, labels=task.label_names)
    train, validation = task.split("train"), task.split("validation")
    warn_overlap(task)
    console.info(f"  {len(train)} training and {len(validation)} validation examples, {len(task.label_names)} labels")
    data = encode_for(source, train, task.spec.max_length)
    held_out = encode_for(source, validation, task.spec.max_length)
    labels = torch.from_numpy(data.labels)

    def loss_of(batch: Batch, positions: Any) -> torch.Tensor:
        logits = model(**batch).logits
        return functional.cross_entropy(logits.float(), labels[positions].to(device))

    def evaluate() -> dict[str, float]:
        predictions = score(torch_forward(model, device), held_out, label="validating").argmax(axis=1)
        return compute(task.spec.metrics, held_out.labels, predictions)

    fitted = fit(model, data, loss_of, settings, seed=inputs.seed, device=device, validate=lambda: evaluate()[task.spec.main_metric])
    metrics = evaluate()
    model.to("cpu")
    save_model(model, output, source)
    return {
        "metrics": {"validation": {"n": len(held_out), **metrics}},
        "training": fitted.as_json(),
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
    }


def warn_overlap(task: Task) -> None:
    """Warn where validation or test examples stand in the training data, too."""
    for name in ("validation", "test"):
        if name in task.available and (shared := overlap(task.split("train"), task.split(name))):
            console.warn(
                f"{shared} of {len(task.split(name))} {name} examples stand in the training data too: scores on them are flattering"
            )
