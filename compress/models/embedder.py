"""Embedders: a transformers encoder with pooling, dense layers and normalisation behind it; the vector is its logits.

The computation is that of sentence-transformers' modules Transformer, Pooling, Dense and Normalize (Reimers and Gurevych 2019, arXiv
1908.10084, section 3).
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from compress.core.errors import ModelError
from compress.models.build import build_model
from compress.models.family import BILSTM, EMBEDDING, STATIC, Family, family_of
from compress.models.layout import WEIGHTS
from compress.models.pretrained import quiet_transformers
from compress.models.sentence_folder import dense_folders, step_folder, write_sentence_head
from compress.models.sentence_head import EMBEDDING_KEY, NORMALIZE, DenseStep, Pooling, SentenceHead
from compress.models.token_reduction import kept_after
from compress.models.types import Config, TransformersModel
from compress.models.weights_file import check_weights

MIN_NORM = 1e-12  # as torch's own normalisation
MIN_COUNT = 1e-9
POOLING_WITHOUT_LAYERS: dict[str, Pooling] = {BILSTM.model_type: "mean", STATIC.model_type: "cls"}  # a static model has one state


class SentenceEmbedder(PreTrainedModel):
    """An encoder and its head; `embedder_class` names it by family, such as `BertForSentenceEmbedding`."""

    def __init__(self, config: Any, encoder: nn.Module | None = None) -> None:
        super().__init__(config)
        family, head = family_of(config.model_type), head_of(config)
        self.pooling = head.pooling
        setattr(self, family.encoder, new_encoder(family, config) if encoder is None else encoder)
        self.steps = nn.ModuleList(Dense(step) if isinstance(step, DenseStep) else Normalize() for step in head.steps)

    def forward(
        self, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **others: Any
    ) -> SequenceClassifierOutput:
        """Return the vectors as `logits`, (batch, size).

        Args:
            input_ids: (batch, length); None if `inputs_embeds` is among the others.
            attention_mask: (batch, length), 1 for tokens and 0 for padding on the right; by default there is no padding.
            others: further inputs of the encoder, and what it is to return.
        """
        given = others["inputs_embeds"][..., 0] if input_ids is None else input_ids  # (batch, length)
        mask = torch.ones_like(given, dtype=torch.int64) if attention_mask is None else attention_mask
        family = family_of(self.config.model_type)
        encoder = getattr(self, family.encoder)
        if not family.has_layers:
            states, mask = encoder.token_states(input_ids, mask)
            return SequenceClassifierOutput(logits=self.vectors(states, mask))
        outputs = encoder(input_ids=input_ids, attention_mask=mask, **others)
        kept = kept_after(encoder, mask)
        return SequenceClassifierOutput(
            logits=self.vectors(outputs.last_hidden_state, kept), hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def vectors(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the vectors, (batch, size), of the last layer's states, (batch, length, hidden)."""
        vectors = self.pooled_states(states, mask)
        for step in self.steps:
            vectors = step(vectors)
        return vectors

    def pooled_states(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what the first step gets, (batch, hidden * poolings)."""
        with torch.autocast(states.device.type, enabled=False):  # a sum over tokens, or a position beyond 256, is too much for bf16
            return torch.cat([pooled(states.float(), mask, mode) for mode in self.pooling], dim=-1)


class Dense(nn.Module):
    """A linear and its activation."""

    def __init__(self, step: DenseStep) -> None:
        super().__init__()
        self.linear = nn.Linear(step.in_features, step.out_features, bias=step.bias)
        self.activation: nn.Module = getattr(nn, step.activation)()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(batch, in) -> (batch, out)."""
        return self.activation(self.linear(vectors))


class Normalize(nn.Module):
    """Scales vectors to length one."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(batch, size) -> (batch, size)."""
        return nn.functional.normalize(vectors, dim=-1, eps=MIN_NORM)


def pooled(states: torch.Tensor, mask: torch.Tensor, mode: Pooling) -> torch.Tensor:
    """Return one vector for each text, (batch, hidden).

    Args:
        states: of the tokens, (batch, length, hidden).
        mask: (batch, length), 1 for tokens; padding is on the right.
        mode: how.
    """
    if mode == "cls":
        return states[:, 0]
    if mode == "lasttoken":
        last = (mask.sum(1) - 1).clamp_min(0)
        return states[torch.arange(len(states), device=states.device), last]
    if mode == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).max(dim=1).values
    weights = mask.to(states.dtype)
    if mode == "weightedmean":
        weights = weights * torch.arange(1, mask.shape[1] + 1, device=states.device, dtype=states.dtype)
    count = weights.sum(1, keepdim=True).clamp_min(MIN_COUNT)
    return torch.einsum("bl,blh->bh", weights, states) / (count.sqrt() if mode == "mean_sqrt_len" else count)


def head_of(config: Any) -> SentenceHead:
    """Return the head in the config of a model in memory."""
    return SentenceHead.from_json(getattr(config, EMBEDDING_KEY))


def is_embedder_model(model: object) -> bool:
    """Return whether a model is an embedder."""
    return isinstance(model, SentenceEmbedder)


def vector_size(model: TransformersModel) -> int:
    """Return the number of dimensions of an embedder's vectors."""
    return head_of(model.config).size(state_width(model.config))


def state_width(config: Any) -> int:
    """Return the width of the states that an embedder pools: the hidden width, without layers that of the hidden layer."""
    return getattr(config, family_of(config.model_type).state_key)


def head_without_layers(teacher: TransformersModel, family: Family, width: int) -> SentenceHead:
    """Return the head of a student without layers: its states, `width` wide, become vectors as its teacher's by a dense layer."""
    head = head_of(teacher.config)
    steps = (DenseStep(width, vector_size(teacher)), *((NORMALIZE,) if head.normalized else ()))
    return replace(head, pooling=(POOLING_WITHOUT_LAYERS[family.model_type],), steps=steps)


def match_vectors(model: TransformersModel, size: int, normalized: bool) -> None:
    """Give an embedder vectors of another size by a new dense layer, and of length one if `normalized`, else of any length, in place."""
    head, steps = head_of(model.config), list(cast("Any", model.steps))
    new, own = list(head.steps), vector_size(model)
    if head.normalized:
        new, steps = new[:-1], steps[:-1]
    if own != size:
        new.append(dense := DenseStep(own, size))
        steps.append(Dense(dense))
    if normalized:
        new.append(NORMALIZE)
        steps.append(Normalize())
    model.steps = nn.ModuleList(steps)
    setattr(model.config, EMBEDDING_KEY, replace(head, steps=tuple(new)).as_json())


def last_dense(model: TransformersModel) -> Dense | None:
    """Return the last dense layer of an embedder; None if it has none."""
    dense = [step for step in cast("nn.ModuleList", model.steps) if isinstance(step, Dense)]
    return dense[-1] if dense else None


@torch.no_grad()
def ensure_dense(model: TransformersModel) -> Dense:
    """Return the last dense layer of an embedder; without one it gets one, in place: the identity, so that the vectors stay as they are."""
    if (last := last_dense(model)) is not None:
        return last
    head, steps = head_of(model.config), cast("nn.ModuleList", model.steps)
    size = vector_size(model)
    place, dense = len(steps) - int(head.normalized), Dense(new := DenseStep(size, size))
    nn.init.eye_(dense.linear.weight)
    nn.init.zeros_(dense.linear.bias)
    steps.insert(place, dense.to(model.device))
    setattr(model.config, EMBEDDING_KEY, replace(head, steps=(*head.steps[:place], new, *head.steps[place:])).as_json())
    return dense


@cache
def embedder_class(family: Family) -> type[SentenceEmbedder]:
    """Return the class of a family's embedders."""
    name = family.prefix + EMBEDDING
    if not family.has_layers:
        attributes = {"base_model_prefix": family.encoder, "config_class": _own_classes(family)[0], "__module__": __name__}
        return type(name, (SentenceEmbedder,), attributes)
    sdpa = encoder_class(family)._supports_sdpa
    return type(name, (SentenceEmbedder,), {"base_model_prefix": family.encoder, "_supports_sdpa": sdpa, "__module__": __name__})


def encoder_class(family: Family) -> Any:
    """Return transformers' class of a family's encoders without a head."""
    return getattr(quiet_transformers(), f"{family.prefix}Model")


def encoder_options(family: Family) -> dict[str, bool]:
    """Return the options that leave out BERT's pooler, which no embedder uses."""
    accepts = "add_pooling_layer" in inspect.signature(encoder_class(family).__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _own_classes(family: Family) -> tuple[Any, Any]:
    """Return the config and the encoder of a family without layers."""
    if family is STATIC:
        from compress.models.static_model import Static, StaticConfig

        return StaticConfig, Static
    from compress.models.bilstm import BiLstm, BiLstmConfig

    return BiLstmConfig, BiLstm


def load_without_layers(family: Family, folder: Path, config: Config) -> TransformersModel:
    """Load an embedder without layers.

    Args:
        family: of the model.
        folder: of its files.
        config: from `read_config`, with the head.

    Raises:
        ModelError: another pooling than `POOLING_WITHOUT_LAYERS`, or weights that do not fit the config.
    """
    from safetensors.torch import load_file

    head = SentenceHead.from_json(config[EMBEDDING_KEY])
    pooling = POOLING_WITHOUT_LAYERS[family.model_type]
    if head.pooling != (pooling,):
        raise ModelError(f"{folder} is no transformer, and its pooling is {', '.join(head.pooling)}", f"supported: {pooling}")
    own = _own_classes(family)[0].from_pretrained(str(folder))
    setattr(own, EMBEDDING_KEY, head.as_json())
    model = embedder_class(family)(own)
    state = {f"{family.encoder}.{name}": tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    try:
        model.load_state_dict(state | dense_state(folder, config))
    except RuntimeError as error:
        raise ModelError(f"{folder}: the weights do not fit config.json: {str(error).splitlines()[-1].strip()}") from error
    return cast("TransformersModel", model)


def new_encoder(family: Family, config: Any) -> nn.Module:
    """Return an encoder with random weights."""
    if not family.has_layers:
        return _own_classes(family)[1](config)
    return build_model(encoder_class(family), config, **encoder_options(family))


def dense_state(folder: Path, config: Config) -> dict[str, torch.Tensor]:
    """Return the weights of a folder's dense layers by their names in the model.

    Raises:
        ModelError: a file is missing or damaged.
    """
    from safetensors.torch import load_file

    head = SentenceHead.from_json(config[EMBEDDING_KEY])
    state: dict[str, torch.Tensor] = {}
    for number, place in zip(head.dense_steps, dense_folders(folder), strict=False):
        check_weights(place, config)
        for name, tensor in load_file(place / "model.safetensors").items():
            state[f"steps.{number}.{name}"] = tensor
    return state


def load_dense_layers(model: TransformersModel, folder: Path) -> None:
    """Load the weights of an embedder's dense layers, in place.

    Raises:
        ModelError: they are missing or of other sizes.
    """
    state = {name.removeprefix("steps."): tensor for name, tensor in dense_state(folder, model.config.to_dict()).items()}
    try:
        cast("nn.ModuleList", model.steps).load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{folder}: the weights of a dense layer do not fit its config: {str(error).splitlines()[-1].strip()}") from error


def write_head(model: TransformersModel, folder: Path) -> None:
    """Write the files of sentence-transformers that describe an embedder's head, without weights."""
    write_sentence_head(folder, head_of(model.config), state_width(model.config))


def write_dense_layers(model: TransformersModel, folder: Path, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Write the weights of an embedder's dense layers; return those that belong into the encoder's file.

    Args:
        model: an embedder.
        folder: with the head's files.
        state: all weights by name.
    """
    from safetensors.torch import save_file

    family, head = family_of(model.config.model_type), head_of(model.config)
    for number, step in enumerate(head.steps):
        if step != NORMALIZE:
            prefix = f"steps.{number}."
            own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            save_file(own, folder / step_folder(number, step) / "model.safetensors", metadata={"format": "pt"})
    prefix = f"{family.encoder}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def plain_config(config: Any, family: Family) -> Any:
    """Return a copy of an embedder's config as its encoder's folder has it: without the head, which has its own files."""
    copied = config.__class__.from_dict({key: value for key, value in config.to_dict().items() if key != EMBEDDING_KEY})
    copied.architectures = [f"{family.prefix}Model"]
    return cast("Any", copied)
