"""Fine-tuning: the stage `finetune`, its modes, and the training loop that all training verbs share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from compress.core import console, processes
from compress.data.encoded import Encoded
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.activation import activation_of, record_no_activation
from compress.models.checkpoint import load_model, save_model
from compress.models.config import read_config
from compress.models.config_heads import target_of
from compress.models.family import family_of
from compress.models.inputs import encode_for
from compress.models.int8_ranges import drop_ranges
from compress.models.label_mapping import head_for_task, to_model_labels
from compress.models.layers import find_submodule
from compress.models.model_shape import count_params, model_shape
from compress.models.types import TransformersModel
from compress.results import TrainedDocument
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from compress.training.budget import TimeBudget, estimate_scoring_seconds
from compress.training.embedder_objective import embedder_objective
from compress.training.label_loss import loss_on_labels
from compress.training.loop import Loss, TrainingPlan, fit
from compress.training.modes import training_mode
from compress.training.reranker_objective import LIST_SIZE, reranker_objective
from compress.training.seeds import run_seeds
from compress.training.trainable import trained_share


def run(inputs: Inputs, settings: FinetuneSettings, output: Path) -> TrainedDocument:
    """Fine-tune a model on the task, keep its best epoch on validation and write a checkpoint."""
    if settings.seeds:
        return run_seeds(run, inputs, settings, output)
    if settings.mode == "frozen" and settings.precision == "auto":
        settings = settings.model_copy(update={"precision": "fp32"})  # only the head is trained: timing the whole model says nothing
    if inputs.task.spec.ranks_candidates:
        settings = settings.model_copy(update={"batch_size": max(1, settings.batch_size // LIST_SIZE)})  # lists
    task, target = inputs.task, inputs.task.spec.target
    plan = TrainingPlan(settings, inputs.seed, inputs.resume, TimeBudget.of(settings), metric=task.spec.main_metric)
    device = plan.device
    model, train, evaluator, loss = _load(inputs, settings)
    model.to(device)
    forward = torch_forward(model, device)
    final_scoring = estimate_scoring_seconds(forward, evaluator.data) if plan.budget else 0.0
    with training_mode(model, train, evaluator.data, settings, target, device) as (train_inputs, validation_inputs):
        if plan.budget:
            frozen = settings.mode == "frozen"
            plan.budget.reserve(estimate_scoring_seconds(forward, validation_inputs) if frozen else final_scoring, final_scoring)
        loss = loss or loss_on_labels(model, train_inputs, target, device, activation=activation_of(model))
        result = fit(model, train_inputs, loss, plan, lambda: evaluator.score(forward, validation_inputs)[plan.metric])
        trained, share = trained_share(model)
    metrics = processes.from_main(lambda: evaluator.score(forward))
    console.info(f"  mode {settings.mode}: trained {trained:,} parameters, {share:.2%} of all")
    model.to("cpu")
    if inputs.task.spec.ranks_candidates:
        record_no_activation(model)
    if processes.rank() == 0:
        save_model(model, output, inputs.source)
    if result.diverged:
        raise result.diverged
    return {
        "metrics": {"validation": {"n": len(evaluator), **metrics}},
        "training": {"mode": settings.mode, "trained_params": trained, "trained_share": share, **result.as_json()},
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
    }


def _load(inputs: Inputs, settings: FinetuneSettings) -> tuple[TransformersModel, Encoded, Evaluator, Loss | None]:
    """Return the model with a head for the task, encoded training data, the evaluator on validation, and a loss other than the task's."""
    task, source, spec = inputs.task, inputs.source, inputs.task.spec
    torch.manual_seed(inputs.seed)  # for the initial weights of a new head
    config = read_config(source)
    names, classes = head_for_task(config, task, source.name)
    model = load_model(source, labels=names, target=spec.target, pooling=spec.pooling)
    drop_ranges(model.config, "finetune changes what they were trained for")
    if spec.target == "vector":
        data, loss = embedder_objective(task, source, model, settings.max_examples, inputs.seed)
        evaluator = Evaluator(task, "validation", source, classes)
        console.info(f"  {len(data)} training pairs and {len(evaluator)} validation examples")
        return model, data, evaluator, loss
    if task.retrieval is not None:
        data, loss = reranker_objective(task, task.retrieval, source, model, settings, inputs.seed)
        return model, data, Evaluator(task, "validation", source, classes, activation=activation_of(model)), loss
    train = task.split("train").sample(settings.max_examples, inputs.seed)
    evaluator = Evaluator(task, "validation", source, classes, activation=activation_of(model))
    task.warn_of_overlap()
    labels = f", {len(task.label_names)} labels" if spec.target in ("class", "labels", "tags") else ""
    console.info(f"  {len(train)} training and {len(evaluator)} validation examples{labels}")
    if spec.target == "value" and target_of(config) != "value":
        set_output_bias(model, float(train.labels.mean()))
    data = encode_for(source, train, spec.input_spec)
    return model, replace(data, labels=to_model_labels(data.labels, spec.target, classes)), evaluator, None


def set_output_bias(model: TransformersModel, mean: float) -> None:
    """Let a new regression head start at the mean of the training values, so that its steps go into the differences."""
    family = family_of(model.config.model_type)
    with torch.no_grad():
        find_submodule(model, family.last_linear("value")).bias.fill_(mean)
