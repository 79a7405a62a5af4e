"""Cross-layer weight sharing: the stage `share`."""

from __future__ import annotations

import copy
from pathlib import Path

from compress.core import console
from compress.core.errors import UsageError
from compress.editing.dense_model import DenseModel, load_dense_model
from compress.inference.validation import validate_both
from compress.models.checkpoint import save_model
from compress.models.device import pick_device
from compress.models.model_shape import count_params, model_shape
from compress.models.sharing import Owners, refuse_shared
from compress.results import ShareDocument
from compress.settings import ShareSettings
from compress.share.groups import check_group_count, equal_groups, parse_groups, search_groups
from compress.share.layers import can_share, logits_change, share_layers
from compress.stage import Inputs


def run(inputs: Inputs, settings: ShareSettings, output: Path) -> ShareDocument:
    """Choose the groups, give the layers of each group the same weights, and write the checkpoint with one copy of them.

    Raises:
        UsageError: groups that the model cannot have, or a model that `share` does not take.
        DataError: the model does not fit the task, or the calibration texts are unusable.
    """
    dense = load_dense_model(inputs.source, inputs.task, inputs.seed, "share")
    refuse_shared(dense.model)
    owners = _choose_groups(dense, settings)
    model = copy.deepcopy(dense.model)
    share_layers(model, owners, settings.how)
    metrics = validate_both(dense, model)
    if metrics:
        main = dense.task.spec.main_metric
        console.info(f"  validation {main} {100 * metrics[main]:.2f}, before {100 * metrics['before']:.2f}; distill to recover it")
    save_model(model, output, dense.source)
    params, params_before = count_params(model), count_params(dense.model)
    console.info(
        f"  layers share as {' '.join(map(str, owners))}: {100 * params / params_before:.1f} % of the parameters, at the same latency"
    )
    return {
        "groups": [[number for number, owner in enumerate(owners) if owner == first] for first in sorted(set(owners))],
        "how": settings.how,
        "params": params,
        "params_before": params_before,
        "layers": model_shape(model).as_json(),
        "shared": list(owners),
        "metrics": {"validation": metrics},
    }


def _choose_groups(dense: DenseModel, settings: ShareSettings) -> Owners:
    """Return the given groups, equal ones, or those that a search finds.

    Raises:
        UsageError: groups that the model cannot have.
    """
    count = len(dense.shape.layers)
    if settings.groups == "auto" and settings.layers:
        return _search(dense, settings, settings.layers)
    owners = equal_groups(count, settings.layers) if settings.layers else parse_groups(settings.groups or "", count)
    if not can_share(dense.model, owners):
        raise UsageError("layers of different shapes cannot share weights", "choose other groups, or share a dense model")
    return owners


def _search(dense: DenseModel, settings: ShareSettings, groups: int) -> Owners:
    """Return the groups of neighbours whose sharing changes the model's logits least."""
    count = len(dense.shape.layers)
    check_group_count(count, groups)
    device, calibration = pick_device(settings.device), dense.calibration(settings.unlabeled, settings.calib_samples)
    batches = [calibration.inputs(positions, dense.model, device) for positions in calibration.batches()]
    model = dense.model.to(device)
    with console.progress("trying groups", count - groups) as advance:
        change = logits_change(model, batches, settings.how)
        owners = search_groups(count, groups, change, lambda owners: can_share(model, owners), advance)
    model.to("cpu")
    return owners
