"""One copy of the weights for several layers: the stage `share`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from compress.core import console
from compress.core.errors import UsageError
from compress.data.batching import evaluation_batches
from compress.data.unlabeled import read_unlabeled
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.adapters import refuse_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.config import read_config
from compress.models.device import Batch, pick_device, to_tensors
from compress.models.family import family_of
from compress.models.inputs import encode_calibration
from compress.models.label_mapping import map_labels
from compress.models.layers import encoder_layers, find_submodule, refuse_recurrent
from compress.models.low_rank import refuse_factorized
from compress.models.model_shape import count_params, model_shape
from compress.models.relative_positions import bias_columns
from compress.models.sharing import Owners, refuse_shared, share_parameters
from compress.models.task_loss import logits_of
from compress.results import ShareDocument
from compress.settings import ShareSettings
from compress.share.groups import best_groups, check_count, equal_groups, parse_groups
from compress.stage import Inputs

BATCH = 32


def run(inputs: Inputs, settings: ShareSettings, output: Path) -> ShareDocument:
    """Choose the groups, give each one copy of weights, and write the checkpoint with one copy of each.

    Raises:
        UsageError: groups that the model cannot have, or a model that this does not take.
    """
    task, source = inputs.task, inputs.source
    dense = load_model(source, target=task.spec.target)
    for refuse in (refuse_recurrent, refuse_adapters, refuse_factorized, refuse_shared):
        refuse(dense, "share")
    classes = map_labels(read_config(source), task, str(source.name))
    owners = _owners(dense, inputs, settings)
    model = copy.deepcopy(dense)
    share_layers(model, owners, settings.how)
    metrics: dict[str, Any] = {}
    if "validation" in task.available:
        evaluator, main = Evaluator(task, "validation", source, classes), task.spec.main_metric
        before, found = (evaluator.score(torch_forward(each)) for each in (dense, model))
        metrics = {"n": len(evaluator), **found, "before": before[main]}
        console.info(f"  validation {100 * found[main]:.2f}, before {100 * before[main]:.2f}; distill to win it back")
    save_model(model, output, source)
    params, whole, shape = count_params(model), count_params(dense), model_shape(model)
    console.info(f"  layers share as {' '.join(map(str, owners))}: {100 * params / whole:.1f} % of the parameters, and no less time")
    return {
        "groups": [[number for number, owner in enumerate(owners) if owner == first] for first in sorted(set(owners))],
        "how": settings.how,
        "params": params,
        "params_before": whole,
        "layers": shape.as_json(),
        "shared": list(owners),
        "metrics": {"validation": metrics},
    }


def _owners(model: Any, inputs: Inputs, settings: ShareSettings) -> Owners:
    """Return the groups that the settings ask for."""
    count = len(model_shape(model).layers)
    if settings.groups == "auto" and settings.layers:
        return _found(model, inputs, settings, count, settings.layers)
    owners = equal_groups(count, settings.layers) if settings.layers else parse_groups(settings.groups or "", count)
    if not alike(model, owners):
        raise UsageError("layers of different shapes cannot share weights", "choose other groups, or share a dense model")
    return owners


def _found(model: Any, inputs: Inputs, settings: ShareSettings, count: int, wanted: int) -> Owners:
    """Return the groups of neighbours whose sharing changes the model's answers least."""
    check_count(count, wanted)
    task, device = inputs.task, pick_device(settings.device)
    examples = read_unlabeled(settings.unlabeled, task.spec) if settings.unlabeled else task.split("train")
    data = encode_calibration(inputs.source, examples, task.spec.input_spec, settings.calib_samples, inputs.seed)
    batches = [to_tensors(data.batch(positions), model, device) for positions in evaluation_batches(data.lengths, BATCH)]
    model.to(device)
    with console.progress("trying groups", count - wanted) as advance:
        owners = best_groups(count, wanted, answers_changed(model, batches, settings.how), lambda owners: alike(model, owners), advance)
    model.to("cpu")
    return owners


def alike(model: Any, owners: Sequence[int]) -> bool:
    """Tell whether the layers of each group have one shape, and take the same columns of a shared bias of positions."""
    family, shape, found = family_of(model.config.model_type), model_shape(model), list(encoder_layers(model))
    columns = [bias_columns(model, find_submodule(layer.module, family.attention)) for layer in found]
    told = [(size, None if own is None else tuple(own.tolist())) for size, own in zip(shape.layers, columns, strict=True)]
    return all(told[owner] == told[number] for number, owner in enumerate(owners))


@torch.no_grad()
def share_layers(model: Any, owners: Sequence[int], how: str) -> None:
    """Let the layers of each group use the same weights, in place.

    Args:
        model: dense or pruned.
        owners: for each layer the first one of its group.
        how: `mean`: of the group's weights; `first`, `last`: of that layer.
    """
    found = [dict(layer.module.named_parameters()) for layer in encoder_layers(model)]
    for first in set(owners):
        group = [found[number] for number, owner in enumerate(owners) if owner == first]
        for name, parameter in found[first].items():
            if how == "mean":
                parameter.copy_(torch.stack([each[name] for each in group]).mean(0))
            elif how == "last":
                parameter.copy_(group[-1][name])
    share_parameters(model, owners)


def answers_changed(model: Any, batches: Sequence[Batch], how: str) -> Callable[[Owners], float]:
    """Return a function from groups to the sum of squared differences of the logits of real tokens, or of texts.

    Args:
        model: the one to share, in evaluation mode; it is left as it is.
        batches: calibration inputs on its device.
        how: see `share_layers`.
    """
    with torch.no_grad():
        wanted = [logits_of(model(**batch)) for batch in batches]

    @torch.no_grad()
    def loss_of(owners: Owners) -> float:
        shared = copy.deepcopy(model)
        share_layers(shared, owners, how)
        total = 0.0
        for batch, logits in zip(batches, wanted, strict=True):
            squares = (logits_of(shared(**batch)) - logits).float().square().sum(-1)  # (batch,) or (batch, length)
            total += float((squares if squares.ndim == 1 else squares * batch["attention_mask"]).sum())
        return total

    return loss_of
