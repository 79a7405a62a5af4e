"""Mode `frozen`: run the encoder once over the data and train only the head, on its cached output.

The head of a text classifier reads the last hidden state of the first token (BERT's through its pooler, which is trained too), or with
`classifier_pooling: mean` those of all tokens; the head of a token classifier or a reader reads those of all tokens; an embedder's dense
layers read the pooled vector. So these states are
all that training needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from torch import nn

from compress.core.errors import ResourceError, UsageError
from compress.data.encoded import Encoded
from compress.data.encoded_lists import EncodedLists
from compress.data.input_spec import Target
from compress.inference.batches import run_batches
from compress.models.device import to_tensors
from compress.models.embedder import is_embedder_model
from compress.models.family import HEAD_CLASSES, TOKEN_HEADS, family_of
from compress.models.layers import find_submodule, reads_every_token
from compress.models.token_reduction import kept_after
from compress.models.types import TransformersModel
from compress.training.trainable import head_modules, train_only

if TYPE_CHECKING:
    from transformers.modeling_outputs import BaseModelOutputWithPooling


@dataclass(frozen=True, kw_only=True)
class EncodedStates(Encoded):
    """Encoded examples whose batches hold an encoder's last hidden states instead of token ids."""

    states: np.ndarray  # (n, width) float32 of texts, or (tokens, hidden) float16 of all tokens, at `starts`
    every_token: bool

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return `inputs_embeds` (batch, length, width) float32 and `attention_mask` (batch, length); texts have length 1."""
        if not self.every_token:
            return _of_length_one(self.states[np.asarray(positions, dtype=int)])
        mask = super().batch(positions, pad_to)["attention_mask"]
        padded = np.zeros((*mask.shape, self.states.shape[1]), dtype=np.float32)
        for row, i in enumerate(positions):
            padded[row, : self.lengths[i]] = self.states[self.starts[i] : self.starts[i + 1]]
        return {"inputs_embeds": padded, "attention_mask": mask}


@dataclass(frozen=True, kw_only=True)
class EncodedStateLists(EncodedLists):
    """Lists of inputs whose batches hold states of texts instead of token ids."""

    states: np.ndarray  # (distinct inputs, width) float32
    rows: np.ndarray  # the input of each place of each list, (lists * size,)

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return `inputs_embeds` (lists * size, 1, width) float32 and `attention_mask` (lists * size, 1)."""
        rows = self.rows.reshape(-1, self.size)[np.asarray(positions, dtype=int)].ravel()
        return _of_length_one(self.states[rows])


def _of_length_one(states: np.ndarray) -> dict[str, np.ndarray]:
    return {"inputs_embeds": states[:, None], "attention_mask": np.ones((len(states), 1), dtype=np.int64)}


@contextmanager
def cached_states(
    model: TransformersModel, splits: Sequence[Encoded], target: Target, device: torch.device
) -> Iterator[list[EncodedStates | EncodedStateLists]]:
    """Within this context only the head of `model` is trained and computed, on batches of the yielded states.

    First the encoder runs over every split, in evaluation mode. On leaving, the model is complete again.

    Args:
        model: a model with its head.
        splits: encoded examples, or lists of them.
        target: what the head predicts; for tags and spans the states of all tokens are cached, for vectors what the pooling returns.
        device: where to compute.

    Raises:
        ResourceError: the states do not fit into memory.
        UsageError: lists, and a head that reads all tokens.
    """
    every_token = HEAD_CLASSES[target] in TOKEN_HEADS or (target != "vector" and reads_every_token(model.config))
    _check_memory(model, splits, every_token)
    train_only(model, head_modules(model, target))
    encoder = find_submodule(model, family_of(model.config.model_type).encoder)
    model.to(device).eval()
    cached = [_encode(model, encoder, data, every_token, device) for data in splits]
    encoder.forward = _passthrough(encoder)
    try:
        with _pooled_already(model) if is_embedder_model(model) else nullcontext():
            yield cached
    finally:
        del encoder.forward  # uncovers the method of the class


def _encode(
    model: TransformersModel, encoder: nn.Module, data: Encoded, every_token: bool, device: torch.device
) -> EncodedStates | EncodedStateLists:
    """Run the encoder over a split; of lists each distinct input once."""
    if isinstance(data, EncodedLists):
        if every_token:
            raise UsageError(
                "finetune --mode frozen does not support lists of candidates for a head that reads all tokens", "use --mode lora"
            )
        distinct, rows = _distinct(data)
        states = _states(model, encoder, distinct, every_token, device)
        return EncodedStateLists(**{field.name: getattr(data, field.name) for field in fields(EncodedLists)}, states=states, rows=rows)
    states = _states(model, encoder, data, every_token, device)
    return EncodedStates(**{field.name: getattr(data, field.name) for field in fields(Encoded)}, states=states, every_token=every_token)


def _states(model: TransformersModel, encoder: nn.Module, data: Encoded, every_token: bool, device: torch.device) -> np.ndarray:
    """Return what the head reads, (n, width) float32 of texts or (tokens, hidden) float16."""
    embedder: Any = model

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        inputs = to_tensors(batch, model, device)
        with torch.inference_mode():
            states = encoder(**inputs)[0]
            if is_embedder_model(model):
                states = embedder.pooled_states(states, kept_after(encoder, inputs["attention_mask"]))
        return (states if every_token or states.ndim == 2 else states[:, 0]).cpu().numpy()

    return run_batches(forward, data, label="encoding", dtype=np.float16 if every_token else np.float32)


def _distinct(data: EncodedLists) -> tuple[Encoded, np.ndarray]:
    """Return the distinct inputs of lists, and the one of each place, (lists * size,); a document may be in many lists."""
    if not isinstance(data.input_ids, list):
        rows = np.arange(len(data.input_ids))
        return Encoded(data.input_ids, data.token_type_ids, np.zeros(len(rows)), data.pad_id), rows
    first: dict[int, int] = {}  # `group_inputs` repeats the same arrays
    rows = np.array([first.setdefault(id(ids), len(first)) for ids in data.input_ids])
    places = np.unique(rows, return_index=True)[1].tolist()
    ids, types = ([part[place] for place in places] for part in (data.input_ids, data.token_type_ids))
    return Encoded(ids, types, np.zeros(len(ids)), data.pad_id), rows


@contextmanager
def _pooled_already(model: TransformersModel) -> Iterator[None]:
    """Within this context an embedder takes its encoder's states, of length one, as pooled."""
    embedder: Any = model
    own, embedder.pooling = embedder.pooling, ("cls",)
    try:
        yield
    finally:
        embedder.pooling = own


def _passthrough(encoder: nn.Module) -> Callable[..., BaseModelOutputWithPooling]:
    """Return an encoder's forward function that returns the states it receives."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    # ALBERT's pooler is a mere linear
    pooler, activation = getattr(encoder, "pooler", None), getattr(encoder, "pooler_activation", None)

    def forward(*args: object, inputs_embeds: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        pooled = None if pooler is None else pooler(inputs_embeds) if activation is None else activation(pooler(inputs_embeds[:, 0]))
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)  # pyright: ignore[reportArgumentType]

    return forward


def _check_memory(model: TransformersModel, splits: Sequence[Encoded], every_token: bool) -> None:
    hidden = getattr(model.config, family_of(model.config.model_type).hidden_key)
    needed = sum(2 * int(data.lengths.sum()) if every_token else 4 * len(data.input_ids) for data in splits) * hidden
    available = psutil.virtual_memory().available
    if needed > available // 2:
        raise ResourceError(
            f"mode frozen caches {needed >> 20} MiB of hidden states, more than half of the {available >> 20} MiB of available memory",
            "use --mode lora, shorter texts (--max-length) or fewer training examples",
        )
