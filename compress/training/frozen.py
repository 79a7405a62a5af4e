"""Mode `frozen`: run the encoder once over the data and train only the head, on its cached output.

The head of a text classifier reads the last hidden state of the first token (BERT's through its pooler, which is trained too), or with
`classifier_pooling: mean` those of all tokens; the head of a token classifier or a reader reads those of all tokens. So these states are
all that training needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from torch import nn

from compress.core.errors import ResourceError
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.inference.batches import run_batches
from compress.models.device import to_tensors
from compress.models.family import HEAD_CLASSES, SEQUENCE, family_of
from compress.models.layers import find_submodule, reads_every_token
from compress.models.types import TransformersModel
from compress.training.trainable import head_modules, train_only

if TYPE_CHECKING:
    from transformers.modeling_outputs import BaseModelOutputWithPooling


@dataclass(frozen=True, kw_only=True)
class EncodedStates(Encoded):
    """Encoded examples whose batches hold an encoder's last hidden states instead of token ids."""

    states: np.ndarray  # (n, hidden) float32 of first tokens, or (tokens, hidden) float16 of all, at `starts`
    every_token: bool

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return `inputs_embeds` (batch, length, hidden) float32 and `attention_mask` (batch, length); first tokens have length 1."""
        if not self.every_token:
            states = self.states[np.asarray(positions, dtype=int)]
            return {"inputs_embeds": states[:, None], "attention_mask": np.ones((len(states), 1), dtype=np.int64)}
        mask = super().batch(positions, pad_to)["attention_mask"]
        padded = np.zeros((*mask.shape, self.states.shape[1]), dtype=np.float32)
        for row, i in enumerate(positions):
            padded[row, : self.lengths[i]] = self.states[self.starts[i] : self.starts[i + 1]]
        return {"inputs_embeds": padded, "attention_mask": mask}


@contextmanager
def cached_states(
    model: TransformersModel, splits: Sequence[Encoded], target: Target, device: torch.device
) -> Iterator[list[EncodedStates]]:
    """Within this context only the head of `model` is trained and computed, on batches of the yielded states.

    First the encoder runs over every split, in evaluation mode. On leaving, the model is complete again.

    Args:
        model: a model with its head.
        splits: encoded examples.
        target: what the head predicts; for tags and spans the states of all tokens are cached.
        device: where to compute.

    Raises:
        ResourceError: the states do not fit into memory.
    """
    every_token = HEAD_CLASSES[target] != SEQUENCE or reads_every_token(model.config)
    _check_memory(model, splits, every_token)
    train_only(model, head_modules(model, target))
    encoder = find_submodule(model, family_of(model.config.model_type).encoder)
    model.to(device).eval()
    cached = [_encode(model, encoder, data, every_token, device) for data in splits]
    encoder.forward = _passthrough(getattr(encoder, "pooler", None))
    try:
        yield cached
    finally:
        del encoder.forward  # uncovers the method of the class


def _encode(model: TransformersModel, encoder: nn.Module, data: Encoded, every_token: bool, device: torch.device) -> EncodedStates:
    """Run the encoder over a split."""

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            states = encoder(**to_tensors(batch, model, device))[0]
        return (states if every_token else states[:, 0]).cpu().numpy()

    states = run_batches(forward, data, label="encoding", dtype=np.float16 if every_token else np.float32)
    return EncodedStates(**{field.name: getattr(data, field.name) for field in fields(Encoded)}, states=states, every_token=every_token)


def _passthrough(pooler: nn.Module | None) -> Callable[..., BaseModelOutputWithPooling]:
    """Return an encoder's forward function that returns the states it receives."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    def forward(*args: object, inputs_embeds: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        pooled = None if pooler is None else pooler(inputs_embeds)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)  # pyright: ignore[reportArgumentType]

    return forward


def _check_memory(model: TransformersModel, splits: Sequence[Encoded], every_token: bool) -> None:
    hidden = getattr(model.config, family_of(model.config.model_type).hidden_key)
    needed = sum(2 * int(data.lengths.sum()) if every_token else 4 * len(data) for data in splits) * hidden
    available = psutil.virtual_memory().available
    if needed > available // 2:
        raise ResourceError(
            f"mode frozen caches {needed >> 20} MiB of hidden states, more than half of the {available >> 20} MiB of available memory",
            "use --mode lora, shorter texts (--max-length) or fewer training examples",
        )
