"""Mode `lora` (Hu et al. 2021, arXiv 2106.09685): low-rank updates of query and value, merged into the weights at the end."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from compress.core.errors import ModelError, UsageError
from compress.data.input_spec import Target
from compress.models.family import family_of, layers
from compress.training.loop import head_of

TOLERANCE = 1e-4  # of the merged logits, absolute and relative


def add_factors(model: Any, target: Target, rank: int, alpha: float) -> Any:
    """Let `W x` of every query and value be `W x + alpha / rank B A x`, in place; A, B and the head are trained (section 4.1).

    Args:
        model: a model with its head, dense or pruned; layers without heads have nothing to update.
        target: what its head answers.
        rank: rows of A.
        alpha: the scale of the update, in units of the rank.

    Returns:
        peft's wrapper, which `merge` takes; the model itself trains and answers with the update.

    Raises:
        UsageError: no layer has heads left.
    """
    from peft import LoraConfig, get_peft_model  # here, because this takes seconds

    family = family_of(model.config.model_type)
    names = [
        f"{family.encoder}.{family.layers}.{number}.{name}"
        for number, layer in enumerate(layers(model))
        if layer.query is not None
        for name in (family.query, family.value)
    ]
    if not names:
        raise UsageError("mode lora updates queries and values, and no layer of this model has heads", "use --mode full or adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        wrapper = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=names))  # pyright: ignore[reportArgumentType]
    for module in head_of(model, target):
        module.requires_grad_(True)
    return wrapper


def merge(wrapper: Any, logits: Callable[[], np.ndarray]) -> None:
    """Add the updates to the weights, in place: the model is a plain one again.

    Args:
        wrapper: as `add_factors` made it.
        logits: returns the model's logits on a batch, in evaluation mode.

    Raises:
        ModelError: the merged model answers otherwise than the model did before.
    """
    before = logits()
    try:
        wrapper.merge_and_unload(safe_merge=True)
    except ValueError as error:  # weights that are not finite
        raise ModelError(f"the update cannot be merged: {error}", "lower the learning rate (--lr)") from error
    after = logits()
    if not np.allclose(after, before, rtol=TOLERANCE, atol=TOLERANCE):
        raise ModelError(
            f"the merged model's logits differ by up to {np.abs(after - before).max():.1e} from those before",
            "this is a bug of ours: please report it",
        )
