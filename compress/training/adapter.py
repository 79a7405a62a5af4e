"""Mode `adapter` (Houlsby et al. 2019, arXiv 1902.00751): small bottlenecks in every layer are trained, the encoder is not."""

from __future__ import annotations

from typing import Any

from torch import nn

from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.models.adapters import adapter_size, adapters, add_adapters
from compress.training.loop import head_of, train_only


def train_adapters(model: Any, target: Target, size: int) -> None:
    """Give a model adapters, in place, and let these, the LayerNorms and the head be all that is trained (section 2.1).

    A model that has adapters of this size keeps them.

    Raises:
        UsageError: it has adapters of another size.
    """
    own = adapter_size(model)
    if own not in (0, size):
        raise UsageError(f"the model has adapters of size {own} already, not {size}", f"give --adapter-size {own} to train these")
    if not own:
        add_adapters(model, size)
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    train_only(model, [*adapters(model), *norms, *head_of(model, target)])
