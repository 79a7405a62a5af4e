"""Token reduction: after some layers' attention only the tokens that receive most of it are computed further.

PoWER-BERT (Goyal et al. 2020, arXiv 2001.08950, section 3.3) scores a token by the attention that it receives: the sum of column j of the
attention weights over heads and queries, `sum_h sum_i A_h[i, j]`. A layer with the share s keeps the first token and the best others,
`kept_tokens(n, s)` in all of a text of n tokens. Dropped tokens take no part in what follows: no query, key or value, no pooling.

Here, in PyTorch, tokens are masked: they stay in place and nothing reads them, so that transformers' own forward functions, positions,
losses and refits work as they are. The graph gathers the others ([export/token_selection.py](../export/token_selection.py)), which is what
saves time; both compute the same.

What a forward pass keeps is held for each thread: hooks on the encoder, on its layers and on their attention pass it on.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.models.family import TOKEN_HEADS, family_of
from compress.models.layers import encoder_layers, find_submodule, reads_every_token
from compress.models.sentence_head import EMBEDDING_KEY, SentenceHead
from compress.models.shape import LEAST_TOKENS, per_mille
from compress.models.types import TransformersModel

SHARE = "token_share"  # attribute of a layer: the share of the text's tokens that it keeps
HOOKED = "selects_tokens"  # attribute of modules that have the hooks of this file
POOLINGS = ("cls", "mean", "max", "mean_sqrt_len")  # of embedders; the others depend on the positions of tokens
CallArguments = tuple[tuple[object, ...], dict[str, object]]


@dataclass
class TokenPass:
    """What a forward pass keeps.

    Attributes:
        mask: the tokens of the texts, without padding, (batch, length) bool.
        kept: those that are still computed, the same shape.
        after: `kept` after the embeddings and after each layer.
        weights: attention weights of the layer that runs, (batch, heads, length, length).
        margins: of every selection, by how much the last token that stayed received more attention than the first that did not: a share
            of its own, (batch,); infinite if none was dropped.
    """

    mask: torch.Tensor
    kept: torch.Tensor
    after: list[torch.Tensor] = field(default_factory=list)
    weights: torch.Tensor | None = None
    margins: list[torch.Tensor] = field(default_factory=list)


class _Current(threading.local):
    tokens: TokenPass | None = None


_current = _Current()


def token_share(layer: nn.Module) -> float:
    """Return the share of a text's tokens that a layer keeps."""
    return getattr(layer, SHARE, 1.0)


def reduces_tokens(model: TransformersModel) -> bool:
    """Return whether a layer of a model keeps fewer tokens than there are."""
    return any(token_share(layer.module) < 1 for layer in encoder_layers(model))


def set_token_shares(model: TransformersModel, shares: Sequence[float]) -> None:
    """Let each layer keep a share of a text's tokens, in place.

    Args:
        model: whose prediction is one for the whole text.
        shares: above 0, up to 1, one for each layer; a layer never keeps more than the layer below it.

    Raises:
        UsageError: the model predicts something for each token, or pools tokens by their positions.
    """
    layers = list(encoder_layers(model))
    if all(share >= 1 for share in shares) and not reduces_tokens(model):
        return
    refuse_token_reduction(model)
    family = family_of(model.config.model_type)
    encoder = find_submodule(model, family.encoder)
    for layer, share in zip(layers, shares, strict=True):
        object.__setattr__(layer.module, SHARE, float(share))  # no module or tensor, for which torch's own method is
        _hook_layer(layer.module, find_submodule(layer.module, family.attention))
    if not hasattr(encoder, HOOKED):
        object.__setattr__(encoder, HOOKED, True)
        encoder.register_forward_pre_hook(_begin, with_kwargs=True)
    for module in model.modules():  # no other kernel returns its weights
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) is not None:
            config._attn_implementation = "eager"  # pyright: ignore[reportOptionalMemberAccess]


def refuse_token_reduction(model: TransformersModel) -> None:
    """Refuse a model that needs all of its tokens.

    Raises:
        UsageError: it does; the message says why.
    """
    name, config = type(model).__name__, model.config
    why = ""
    if not family_of(config.model_type).has_layers:
        why = "it has no transformer layers"
    elif name.endswith(TOKEN_HEADS):
        why = "it predicts something for every token"
    elif not hasattr(config, EMBEDDING_KEY) and reads_every_token(config):
        why = f"its head pools all tokens (classifier_pooling: {config.classifier_pooling})"
    elif hasattr(config, EMBEDDING_KEY):
        pooling = SentenceHead.from_json(getattr(config, EMBEDDING_KEY)).pooling
        why = "" if set(pooling) <= set(POOLINGS) else f"its pooling ({', '.join(pooling)}) depends on the positions of tokens"
    if why:
        raise UsageError(f"tokens of a {name} cannot be dropped: {why}", "leave --tokens out")


def kept_after(encoder: nn.Module, mask: torch.Tensor) -> torch.Tensor:
    """Return the tokens that the forward pass of `encoder` that has just ended kept, as `mask` is, (batch, length)."""
    tokens = _current.tokens if hasattr(encoder, HOOKED) else None
    return mask if tokens is None else tokens.kept.to(mask.dtype)


def kept_tokens_by_layer(model: TransformersModel) -> list[torch.Tensor] | None:
    """Return the tokens that were left after the embeddings and after each layer, (batch, length) bool each, in the last forward pass.

    None for a model that drops no tokens, and for one that ran with the layers of another.
    """
    tokens = _current.tokens if reduces_tokens(model) else None
    return tokens.after if tokens is not None and len(tokens.after) == 1 + len(list(encoder_layers(model))) else None


def closest_margins() -> torch.Tensor | None:
    """Return the smallest margin of each text in the last forward pass of this thread, (batch,); None if it selected no tokens."""
    margins = _current.tokens.margins if _current.tokens is not None else []
    return torch.stack(margins).amin(dim=0) if margins else None


@contextmanager
def token_pass(mask: torch.Tensor, kept: torch.Tensor) -> Iterator[TokenPass]:
    """Run single layers within this context, with the tokens that the layers below have kept; afterwards `kept` is what is left.

    Args:
        mask: the tokens of the texts, (batch, length) bool.
        kept: those that are still computed.
    """
    before = _current.tokens
    _current.tokens = TokenPass(mask, kept)
    try:
        yield _current.tokens
    finally:
        _current.tokens = before


def attention_received(weights: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return the attention that each token receives from those that are kept, over all heads, (batch, length) float32.

    That of the first token is infinite, that of others than `kept` -1.

    Args:
        weights: of attention, (batch, heads, queries, keys).
        kept: the tokens that were computed, (batch, length) bool.
    """
    received = (weights.float() * kept[:, None, :, None]).sum((1, 2)).masked_fill(~kept, -1.0)
    received[:, 0] = torch.inf
    return received


def select_tokens(received: torch.Tensor, kept: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the tokens that stay, (batch, length) bool: those that receive most attention; of equals the earlier.

    Args:
        received: from `attention_received`.
        kept: the tokens that were computed, (batch, length) bool.
        counts: how many stay, (batch,).
    """
    ranks = received.sort(dim=1, descending=True, stable=True).indices.argsort(dim=1)
    return (ranks < counts.unsqueeze(1)) & kept


def selection_margins(received: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """Return by how much the last selected token received more than the first other one, relative to its own, (batch,)."""
    last = received.masked_fill(~selected, torch.inf).amin(dim=1)
    following = received.masked_fill(selected, -1.0).amax(dim=1)
    return torch.where(following < 0, torch.inf, (last - following) / last).nan_to_num(torch.inf, torch.inf)


def kept_counts(mask: torch.Tensor, share: float) -> torch.Tensor:
    """Return `kept_tokens` of each text, (batch,) int64, for a mask of their tokens, (batch, length) bool."""
    lengths = mask.sum(1)
    return torch.maximum((lengths * per_mille(share) + 999) // 1000, lengths.clamp_max(LEAST_TOKENS))


def without_dropped(mask: torch.Tensor | None, kept: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Return a layer's attention mask with dropped tokens masked as keys.

    Args:
        mask: as the encoder passes it: added to scores (floating), or 0 and False for what is masked; None: nothing is.
        kept: (batch, length) bool.
        states: the hidden states, for their type.
    """
    keys = kept[:, None, None, :]
    if mask is None:
        mask = states.new_zeros(len(kept), 1, 1, kept.shape[1])
    if mask.is_floating_point():
        return mask.masked_fill(~keys, torch.finfo(mask.dtype).min)
    return mask & keys if mask.dtype == torch.bool else mask * keys


def _hook_layer(layer: nn.Module, attention: nn.Module) -> None:
    if not hasattr(layer, HOOKED):
        object.__setattr__(layer, HOOKED, True)
        layer.register_forward_pre_hook(_mask_dropped, with_kwargs=True)
        layer.register_forward_hook(_select)
    if not hasattr(attention, HOOKED):
        object.__setattr__(attention, HOOKED, True)
        attention.register_forward_hook(_take_weights)
        if "output_attentions" in inspect.signature(attention.forward).parameters:
            attention.register_forward_pre_hook(_ask_for_weights, with_kwargs=True)


def _begin(encoder: nn.Module, args: tuple[torch.Tensor, ...], kwargs: Mapping[str, torch.Tensor | None]) -> None:
    """Start a forward pass: all tokens are kept."""
    mask = args[1] if len(args) > 1 else kwargs.get("attention_mask")
    if mask is None:
        given = args[0] if args else kwargs.get("input_ids")
        given = kwargs["inputs_embeds"] if given is None else given
        assert given is not None  # noqa: S101 (an encoder has one of them)
        mask = given.new_ones(given.shape[:2], dtype=torch.bool)
    real = mask.bool()
    _current.tokens = TokenPass(real, real, [real])


def _mask_dropped(layer: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> CallArguments | None:
    """Hide dropped tokens from a layer."""
    tokens = _current.tokens
    if tokens is None or tokens.kept is tokens.mask:
        return None
    states = args[0] if args else kwargs["hidden_states"]
    if len(args) > 1:
        return (states, without_dropped(args[1], tokens.kept, states), *args[2:]), {**kwargs}
    return args, {**kwargs, "attention_mask": without_dropped(kwargs.get("attention_mask"), tokens.kept, states)}


def _ask_for_weights(attention: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> CallArguments:
    """Ask an attention that returns its weights only on request (MPNet, DeBERTa) for them."""
    if len(args) > 2 and isinstance(args[2], bool):
        return (*args[:2], True, *args[3:]), kwargs
    return args, {**kwargs, "output_attentions": True}


def _take_weights(attention: nn.Module, args: object, output: tuple[torch.Tensor | None, ...]) -> None:
    if _current.tokens is not None and len(output) > 1:
        _current.tokens.weights = output[1]


def _select(layer: nn.Module, args: object, output: object) -> None:
    """Drop tokens after a layer."""
    tokens = _current.tokens
    if tokens is None:
        return
    share, weights = token_share(layer), tokens.weights
    tokens.weights = None
    if share < 1 and weights is not None:
        with torch.no_grad():
            received = attention_received(weights.detach(), tokens.kept)
            tokens.kept = select_tokens(received, tokens.kept, kept_counts(tokens.mask, share))
            tokens.margins.append(selection_margins(received, tokens.kept))
    tokens.after.append(tokens.kept)
