"""Fine-tuning: the stage `finetune`, its modes, and the training loop that every training verb shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.core import console, processes
from compress.data.encoded import Encoded
from compress.data.examples import overlap
from compress.data.input_spec import Target
from compress.data.task import Task
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.checkpoint import count_params, load_model, model_shape, save_model
from compress.models.config import read_config, target_of
from compress.models.device import Batch, pick_device
from compress.models.family import descend, family_of, refuse_recurrent
from compress.models.inputs import encode_for
from compress.models.low_rank import refuse_factorized
from compress.models.sharing import refuse_shared
from compress.models.task_loss import logits_of, task_loss
from compress.results import TrainedDocument
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from compress.training.adapter import train_adapters
from compress.training.budget import Budget, scoring_seconds
from compress.training.frozen import cached_states
from compress.training.loop import fit
from compress.training.lora import add_factors, merge
from compress.training.seeds import by_seed

MERGED_EXAMPLES = 32  # on which a merged model must answer as before


def run(inputs: Inputs, settings: FinetuneSettings, output: Path) -> TrainedDocument:
    """Fine-tune an encoder (or a model with a head) on the task, keep its best epoch on validation, write a checkpoint."""
    if settings.seeds:
        return by_seed(run, inputs, settings, output)
    budget = Budget.of(settings)
    task, source, spec = inputs.task, inputs.source, inputs.task.spec
    device = pick_device(settings.device)
    torch.manual_seed(inputs.seed)  # the new head's initial weights
    model = load_model(source, labels=task.label_names, target=spec.target)
    train = task.split("train")
    evaluator = Evaluator(task, "validation", source, np.arange(len(task.label_names)))
    warn_overlap(task)
    asked = f", {len(task.label_names)} labels" if spec.target in ("class", "labels", "tags") else ""
    console.info(f"  {len(train)} training and {len(evaluator)} validation examples{asked}")
    data = encode_for(source, train, spec.input_spec)
    held_out = evaluator.data
    if spec.target == "value" and target_of(read_config(source)) != "value":
        start_at_mean(model, train.labels)
    forward = torch_forward(model, device)
    model.to(device)
    after = scoring_seconds(forward, held_out) if budget else 0.0
    with trained_by_mode(model, data, held_out, settings, spec.target, device) as (seen, judged):

        def loss_of(batch: Batch, positions: Any) -> torch.Tensor:
            labels = torch.from_numpy(seen.targets(positions)).to(device)
            return task_loss(logits_of(model(**batch)), labels, batch["attention_mask"], spec.target)

        if settings.mode == "frozen" and settings.precision == "auto":
            settings = settings.model_copy(update={"precision": "fp32"})  # a head alone is no measure of the model
        if budget is not None:
            budget.scores_take(scoring_seconds(forward, judged) if settings.mode == "frozen" else after, after)
        fitted = fit(
            model, seen, loss_of, settings, seed=inputs.seed, device=device,
            validate=lambda: evaluator.score(forward, judged)[spec.main_metric], resume=inputs.resume, budget=budget, weigh=seen.items,
        )  # fmt: skip
        trained = trained_share(model)
    metrics = processes.from_main(lambda: evaluator.score(forward))
    console.info(f"  mode {settings.mode}: trained {trained['trained_params']:,} parameters, {trained['trained_share']:.2%} of all")
    model.to("cpu")
    if processes.rank() == 0:
        save_model(model, output, source)
    if fitted.diverged:
        raise fitted.diverged
    return {
        "metrics": {"validation": {"n": len(evaluator), **metrics}},
        "training": {"mode": settings.mode, **trained, **fitted.as_json()},
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
    }


@contextmanager
def trained_by_mode(
    model: Any, data: Encoded, held_out: Encoded, settings: FinetuneSettings, target: Target, device: torch.device
) -> Iterator[tuple[Encoded, Encoded]]:
    """Within this context a model trains what the mode says, on the data that it yields; on leaving it is one to save.

    Yields:
        Training and validation data as the model takes them: encoded texts, or cached states.

    Raises:
        UsageError: the model does not go with the mode.
        ModelError: merged, it answers otherwise.
        ResourceError: no memory for the states.
    """
    if settings.mode != "full":
        refuse_recurrent(model, f"finetune --mode {settings.mode}")
    if settings.mode in ("lora", "adapter"):
        for refuse in (refuse_factorized, refuse_shared):
            refuse(model, f"finetune --mode {settings.mode}")
    if settings.mode == "frozen":
        with cached_states(model, [data, held_out], target, device) as (seen, judged):
            yield seen, judged
    elif settings.mode == "lora":
        wrapper = add_factors(model, target, settings.lora_rank, settings.lora_alpha)  # pyright: ignore[reportArgumentType]
        yield data, held_out
        batch = held_out.batch(range(min(MERGED_EXAMPLES, len(held_out))))
        merge(wrapper, lambda: torch_forward(model, device)(batch))
    else:
        if settings.mode == "adapter":
            train_adapters(model, target, settings.adapter_size)  # pyright: ignore[reportArgumentType]
        yield data, held_out


def trained_share(model: Any) -> dict[str, Any]:
    """Return how many parameters a model as it stands lets train, and which share of all that is."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"trained_params": trained, "trained_share": trained / count_params(model)}


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
