"""Narrow an encoder: remove dimensions of the hidden states, from the embeddings to the head.

A dimension is part of the residual stream, so it is removed everywhere at once: columns of the embeddings, entries of every
LayerNorm, inputs of query, key, value and FFN, outputs of both output projections, inputs of the head. Heads keep their size, and
the head's own hidden layer its width. LayerNorms then normalise over fewer dimensions: unlike a model without some heads or
neurons, a narrowed model does not equal a masked one. `compress.editing.layer_norms` corrects part of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.editing.dependency_graph import dependency_graph
from compress.editing.gradients import BatchT, activation_gradients_only
from compress.editing.layer_norms import hidden_norms
from compress.models.disentangled import position_embeddings
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule, last_norm
from compress.models.low_rank import FactoredEmbedding, word_embeddings
from compress.models.model_shape import model_shape, record_shape
from compress.models.norms import is_rms_norm, narrow_norm
from compress.models.sharing import share_parameters
from compress.models.types import TransformersModel

ALIGNMENT = 16  # widths are multiples of this, so that vector units are full


def fitting_width(hidden: int, heads: int, share: float) -> int:
    """Return the width nearest to `share * hidden` that is a multiple of 16 and of the config's number of heads.

    It is at least one such multiple, and at most `hidden`.

    >>> fitting_width(384, 12, 0.75)
    288

    Raises:
        UsageError: a share outside of (0, 1].
    """
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share:g} of the hidden dimensions cannot be kept", "give a share above 0, and at most 1")
    unit = math.lcm(ALIGNMENT, heads)
    return hidden if share == 1 else min(hidden, max(1, round(share * hidden / unit)) * unit)


def hidden_scores(model: TransformersModel, batches: Iterable[BatchT], loss_of: Callable[[BatchT], torch.Tensor]) -> torch.Tensor:
    """Score hidden dimensions by the squared change of the loss that a first-order Taylor expansion expects of their removal.

    With `h` the hidden states wherever they are read (after the embeddings and after each LayerNorm), the score is the
    sum over examples of `(sum_places sum_tokens h . dL/dh)^2`. A dimension is removed in all places at once, so their effects are
    added before they are squared (Molchanov et al. 2019, eq. 8, taken per example).

    Args:
        model: a model with its head in evaluation mode; its weights get no gradients.
        batches: the arguments of `loss_of`.
        loss_of: the loss of one batch, **summed** over its examples, so that each example's gradient is its own.

    Returns:
        (hidden,) float64 on the CPU; higher scores matter more.
    """
    family = family_of(model.config.model_type)
    project = find_submodule(model, f"{family.encoder}.{family.embedding_projection}")
    captured: list[torch.Tensor] = []

    def capture(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        captured.append(output)

    places = [*([project] if project is not None else []), *hidden_norms(model)]
    hooks = [place.register_forward_hook(capture) for place in places]
    total = torch.zeros(model_shape(model).hidden, dtype=torch.float64)
    try:
        with activation_gradients_only(model):
            for batch in batches:
                captured.clear()
                loss = loss_of(batch)
                gradients = torch.autograd.grad(loss, captured)
                effects = [(state.detach() * gradient).double().sum(1) for state, gradient in zip(captured, gradients, strict=True)]
                total += torch.stack(effects).sum(0).square().sum(0).cpu()  # (places, batch, hidden) -> (hidden,)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def top_positions(scores: torch.Tensor, count: int) -> list[int]:
    """Return the positions of the `count` highest scores, ascending; of equal scores, the first."""
    return sorted(torch.argsort(scores, descending=True, stable=True)[:count].tolist())


def narrow(model: TransformersModel, kept: Sequence[int]) -> None:
    """Remove all hidden dimensions except the kept ones, in place, from all weights that torch-pruning finds coupled to it.

    Heads keep their size (the config's `compress` entry records it), and the kept dimensions their order. An ELECTRA model that
    projects its embeddings keeps the embeddings; one that does not loses columns of them, like other families.

    Args:
        model: a model with its head, dense or pruned; it is left in evaluation mode.
        kept: ascending positions; their number is a multiple of the config's number of heads.

    Raises:
        UsageError: invalid positions, or a width that transformers cannot build.
    """
    import torch_pruning

    family, shape, config = family_of(model.config.model_type), model_shape(model), model.config
    heads = getattr(config, family.heads_key)
    if list(kept) != sorted(set(kept)) or not kept or kept[0] < 0 or kept[-1] >= shape.hidden:
        raise UsageError(f"the kept dimensions are not ascending positions from 0 to {shape.hidden - 1}")
    if len(kept) % heads:
        raise UsageError(f"a width of {len(kept)} is no multiple of the model's {heads} heads", "fitting_width finds one")
    removed = sorted(set(range(shape.hidden)) - set(kept))
    if not removed:
        return
    root = _stream_root(model)
    prune = {nn.LayerNorm: torch_pruning.prune_layernorm_out_channels, nn.Linear: torch_pruning.prune_linear_out_channels}
    group = dependency_graph(model).get_pruning_group(root, prune.get(type(root), torch_pruning.prune_embedding_out_channels), removed)
    for dependency, positions in group.items:
        module = dependency.target.module
        if isinstance(module, nn.LayerNorm):
            narrow_norm(module, kept)
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            dependency(positions)
    for module in position_embeddings(model):  # the graph does not reach a table that is read as a whole
        if isinstance(module, nn.Embedding) and module.embedding_dim != len(kept):
            module.weight = nn.Parameter(module.weight.detach()[:, list(kept)].clone())
            module.embedding_dim = len(kept)
        elif isinstance(module, nn.LayerNorm) and len(module.weight) != len(kept):
            narrow_norm(module, kept)
    for norm in hidden_norms(model):  # nor the gain of an RMSNorm
        if is_rms_norm(norm):
            narrow_norm(norm, kept)
    for linear in (linear for layer in encoder_layers(model) for linear in layer.position_projections):
        if linear.in_features != len(kept):
            linear.weight, linear.in_features = nn.Parameter(linear.weight.detach()[:, list(kept)].clone()), len(kept)
    setattr(config, family.hidden_key, len(kept))
    if hasattr(config, "pooler_hidden_size"):  # DeBERTa has the width twice
        config.pooler_hidden_size = len(kept)
    encoder = find_submodule(model, family.encoder)
    if hasattr(config, "embedding_size") and find_submodule(encoder, family.embedding_projection) is None:
        config.embedding_size = len(kept)
    share_parameters(model, shape.shared)
    record_shape(model, replace(shape, hidden=len(kept), embedding=None))


def _stream_root(model: TransformersModel) -> nn.Module:
    """Return a module over the hidden dimensions that torch-pruning knows: the last norm, or what embeds the tokens."""
    norm = last_norm(model)
    embeddings = word_embeddings(model)
    return norm if not is_rms_norm(norm) else embeddings.project if isinstance(embeddings, FactoredEmbedding) else embeddings
