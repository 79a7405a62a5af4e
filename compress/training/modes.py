"""The modes of fine-tuning: what is trained, and on which data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.inference.forward import torch_forward
from compress.models.embedder import ensure_dense
from compress.models.layers import refuse_without_layers
from compress.models.low_rank import refuse_factorized
from compress.models.types import TransformersModel
from compress.settings import FinetuneSettings
from compress.training.adapter import train_adapters
from compress.training.frozen import cached_states
from compress.training.lora import add_lora, merge_lora

MERGED_EXAMPLES = 32  # validation examples on which a merged model must predict as before


@contextmanager
def training_mode(
    model: TransformersModel, train: Encoded, validation: Encoded, settings: FinetuneSettings, target: Target, device: torch.device
) -> Iterator[tuple[Encoded, Encoded]]:
    """Within this context a model trains what the mode says; on leaving, it is ready to be saved.

    Yields:
        Training and validation data as the model takes them: encoded texts, or with mode `frozen` cached hidden states.

    Raises:
        UsageError: the mode does not support the model.
        ModelError: the logits of the model changed when its update was merged.
        ResourceError: the hidden states do not fit into memory.
    """
    if settings.mode != "full":
        refuse_without_layers(model, f"finetune --mode {settings.mode}")
    if settings.mode in ("lora", "adapter"):
        refuse_factorized(model, f"finetune --mode {settings.mode}")
    if settings.mode == "frozen":
        if target == "vector":
            ensure_dense(model)
        with cached_states(model, [train, validation], target, device) as (train_states, validation_states):
            yield train_states, validation_states
    elif settings.mode == "lora":
        assert settings.lora_rank is not None and settings.lora_alpha is not None  # noqa: S101, PT018 (filled in for this mode)
        wrapper = add_lora(model, target, settings.lora_rank, settings.lora_alpha)
        yield train, validation
        batch = validation.batch(range(min(MERGED_EXAMPLES, len(validation))))
        merge_lora(wrapper, lambda: torch_forward(model, device)(batch))
    elif settings.mode == "adapter":
        assert settings.adapter_size is not None  # noqa: S101 (filled in for this mode)
        train_adapters(model, target, settings.adapter_size)
        yield train, validation
    else:
        yield train, validation
