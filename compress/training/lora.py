"""Mode `lora` (Hu et al. 2021, arXiv 2106.09685): low-rank updates of queries and values, merged into the weights after training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from compress.core.errors import Diverged, ModelError, UsageError
from compress.data.input_spec import Target
from compress.models.family import family_of
from compress.models.layers import encoder_layers
from compress.models.sharing import owners_of, share_parameters, unshare_parameters
from compress.models.types import TransformersModel
from compress.training.trainable import head_modules

if TYPE_CHECKING:
    from peft import PeftModel

TOLERANCE = 1e-4  # of the merged model's logits, absolute and relative


def add_lora(model: TransformersModel, target: Target, rank: int, alpha: float) -> PeftModel:
    """Replace `W x` of every query and value by `W x + alpha / rank B A x`, in place, and train A, B and the head (section 4.1).

    Args:
        model: a model with its head, dense or pruned; layers without heads are left out.
        target: what its head predicts. Layers that share their weights share their updates.
        rank: rows of A.
        alpha: the scale of the update, in units of the rank.

    Returns:
        peft's wrapper, for `merge_lora`; the model itself trains and predicts with the update.

    Raises:
        UsageError: no layer has heads.
    """
    from peft import LoraConfig, get_peft_model  # imported here because it takes seconds

    family, owners = family_of(model.config.model_type), owners_of(model)
    names = [
        f"{family.encoder}.{family.layers}.{number}.{name}"
        for number, layer in enumerate(encoder_layers(model))
        if layer.query is not None
        for name in (family.query, family.value)
    ]
    if not names:
        raise UsageError("mode lora updates queries and values, and no layer of this model has heads", "use --mode full or adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from peft about transformers
        wrapper = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=names))  # pyright: ignore[reportArgumentType]
    share_parameters(model, owners)
    for module in head_modules(model, target):
        module.requires_grad_(True)
    return wrapper  # pyright: ignore[reportReturnType]


def merge_lora(wrapper: PeftModel, predict: Callable[[], np.ndarray]) -> None:
    """Add the updates to the weights, in place, so that the model has its original modules again.

    Args:
        wrapper: as `add_lora` returned it.
        predict: returns the model's logits on a batch, in evaluation mode.

    Raises:
        ModelError: the merged model's logits differ from those before.
        Diverged: the update is not finite.
    """
    model: TransformersModel = wrapper.get_base_model()  # pyright: ignore[reportAssignmentType]
    before, owners = predict(), owners_of(model)
    unshare_parameters(model, owners)  # an update is added to each layer's own copy, not several times to one
    try:
        wrapper.merge_and_unload(safe_merge=True)  # pyright: ignore[reportCallIssue]
    except ValueError as error:  # weights that are not finite
        raise Diverged(f"the update cannot be merged: {error}", "lower the learning rate (--lr)") from error
    share_parameters(model, owners)
    after = predict()
    if not np.allclose(after, before, rtol=TOLERANCE, atol=TOLERANCE):
        raise ModelError(
            f"the merged model's logits differ by up to {np.abs(after - before).max():.1e} from those before",
            "this is a bug in compress: please report it",
        )
