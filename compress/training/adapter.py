"""Mode `adapter` (Houlsby et al. 2019, arXiv 1902.00751): train small bottleneck modules in every layer of a frozen encoder."""

from __future__ import annotations

from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.models.adapters import adapter_size, adapters, add_adapters
from compress.models.norms import is_norm
from compress.models.types import TransformersModel
from compress.training.trainable import head_modules, train_only


def train_adapters(model: TransformersModel, target: Target, size: int) -> None:
    """Add adapters to a model, in place, and train only them, the LayerNorms and the head (section 2.1 of the paper).

    A model that already has adapters of this size keeps them.

    Raises:
        UsageError: the model has adapters of another size.
    """
    present = adapter_size(model)
    if present not in (0, size):
        raise UsageError(
            f"the model already has adapters of size {present}, not {size}", f"use --adapter-size {present} to train the present adapters"
        )
    if not present:
        add_adapters(model, size)
    norms = [module for module in model.modules() if is_norm(module)]
    train_only(model, [*adapters(model), *norms, *head_modules(model, target)])
