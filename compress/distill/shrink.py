"""A narrower student out of its teacher: the dimensions, heads and neurons that matter most, heads of a smaller size.

Hidden dimensions are chosen once for the whole model, since the residual stream carries them from layer to layer: embeddings,
LayerNorm's gains and biases, and every weight that reads or writes them follow. A rotation to better ones, as SliceGPT makes it,
would not commute with LayerNorm behind the residual addition. The result is a plain checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.distill.calibration import Calibration
from compress.editing.layer_norms import hidden_norms, match_layer_norms
from compress.editing.width import hidden_scores, top_positions
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers, find_submodule
from compress.models.model_shape import model_shape
from compress.models.relative_positions import bias_table
from compress.models.shape import CONFIG_KEY, Shape

OUTLIER = 3.0  # standard deviations of a LayerNorm's gains or biases (Kovaleva et al. 2021, arXiv 2105.06990)
SMALL = 0.02  # of new weights, as in BERT


@dataclass
class LayerFacts:
    """What a layer's inputs are like over real tokens, sums in float64."""

    inputs: torch.Tensor  # (hidden,) squares of what query, key and value read
    context: torch.Tensor  # (heads, size, size) products of what each head hands to the output projection
    neurons: torch.Tensor  # (ffn,) squares of the FFN's activations


def blank(teacher: Any, shape: Shape) -> Any:
    """Return a model of the teacher's family, head and vocabulary with other sizes, its weights as transformers draws them.

    Raises:
        UsageError: an ELECTRA as wide as its embeddings, whose projection would get lost.
    """
    family, config = family_of(teacher.config.model_type), copy.deepcopy(teacher.config)
    first = shape.layers[0]
    sizes = {
        family.hidden_key: shape.hidden,
        family.heads_key: first.heads,
        family.ffn_key: first.ffn,
        family.layers_key: len(shape.layers),
    }
    projected = find_submodule(teacher, f"{family.encoder}.embeddings_project") is not None
    if hasattr(config, "embedding_size"):
        if projected and config.embedding_size == shape.hidden:
            raise UsageError(f"an ELECTRA student cannot be {shape.hidden} wide, as its embeddings are", "choose another width")
        sizes["embedding_size"] = config.embedding_size if projected else shape.hidden
    for key, value in sizes.items():
        setattr(config, key, value)
    if hasattr(config, CONFIG_KEY):
        delattr(config, CONFIG_KEY)
    return type(teacher)(config).eval()


@torch.no_grad()
def shrink(source: Any, shape: Shape, calibration: Calibration) -> Any:
    """Return a smaller copy of a model, of the same depth.

    Args:
        source: a dense model with its head, in evaluation mode on the CPU; it is left as it is.
        shape: at most as wide, with at most as many heads and neurons; all layers equal.
        calibration: texts to score by.

    Raises:
        UsageError: as `blank` raises it.
    """
    student, old = blank(source, shape), model_shape(source)
    with torch.enable_grad():
        scores = hidden_scores(source, *calibration.scored(source))
    scores[outliers(source)] += scores.max() + 1
    kept = top_positions(scores, shape.hidden)
    facts = look(source, calibration)
    chosen = _heads(source, facts, shape.layers[0].heads)
    _copy_embeddings(source, student, kept, chosen[0])
    for large, small, heads, fact in zip(encoder_layers(source), encoder_layers(student), chosen, facts, strict=True):
        _copy_layer(large, small, kept, heads, fact, old.head_size, shape.head_size)
    _copy_head(source, student, kept, calibration)
    if shape.hidden < old.hidden or shape.layers[0] != old.layers[0]:
        match_layer_norms(source, student, kept, calibration.batches(source))
    return student


def outliers(model: Any) -> list[int]:
    """Return the hidden dimensions whose gain or bias is far from the others' in at least half of the LayerNorms."""
    found = hidden_norms(model)
    votes = torch.zeros(model_shape(model).hidden)
    for norm in found:
        values = torch.stack([norm.weight.detach(), norm.bias.detach()])
        far = (values - values.mean(1, keepdim=True)).abs() > OUTLIER * values.std(1, keepdim=True)
        votes += far.any(0)
    return torch.nonzero(votes * 2 >= len(found)).flatten().tolist()


def look(model: Any, calibration: Calibration) -> list[LayerFacts]:
    """Run the calibration texts and sum up what goes into each layer's products."""
    shape = model_shape(model)
    facts = [
        LayerFacts(
            *(torch.zeros(size, dtype=torch.float64) for size in ((shape.hidden,), (layer.heads, *[shape.head_size] * 2), (layer.ffn,)))
        )
        for layer in shape.layers
    ]
    mask: list[torch.Tensor] = []

    def on_query(fact: LayerFacts) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            fact.inputs += args[0][mask[0]].double().square().sum(0)

        return hook

    def on_context(fact: LayerFacts) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            by_head = args[0][mask[0]].double().unflatten(-1, fact.context.shape[:2])  # (tokens, heads, size)
            fact.context += torch.einsum("thi,thj->hij", by_head, by_head)

        return hook

    def on_neurons(fact: LayerFacts) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            fact.neurons += args[0][mask[0]].double().square().sum(0)

        return hook

    hooks = []
    for layer, fact in zip(encoder_layers(model), facts, strict=True):
        for module, hook in ((layer.query, on_query), (layer.attention_output, on_context), (layer.ffn_out, on_neurons)):
            hooks.append(module.register_forward_hook(hook(fact)))  # pyright: ignore[reportOptionalMemberAccess] (dense)
    try:
        for batch in calibration.batches(model):
            mask[:] = [batch["attention_mask"].bool()]
            model(**batch)
    finally:
        for handle in hooks:
            handle.remove()
    return facts


def _heads(model: Any, facts: Sequence[LayerFacts], count: int) -> list[list[int]]:
    """Return the heads of each layer that add most to the residual stream, by the mean square of what they write.

    With a table of relative positions that all layers share (MPNet), the same ones in all layers.
    """
    scores = []
    for layer, fact in zip(encoder_layers(model), facts, strict=True):
        weight = layer.attention_output.weight.double().unflatten(-1, fact.context.shape[:2])  # (hidden, heads, size)
        scores.append(torch.einsum("ohi,hij,ohj->h", weight, fact.context, weight))
    if bias_table(model) is not None:
        scores = [torch.stack([score / score.sum().clamp_min(1e-30) for score in scores]).sum(0)] * len(scores)
    return [top_positions(score, count) for score in scores]


def _copy_embeddings(source: Any, student: Any, kept: list[int], heads: list[int]) -> None:
    """Copy the embeddings, and of MPNet's table of relative positions the columns of the heads, the same in all layers."""
    family = family_of(source.config.model_type)
    large, small = (find_submodule(model, family.encoder) for model in (source, student))
    projection = find_submodule(large, "embeddings_project")
    for name, module in large.embeddings.named_modules():
        target: Any = find_submodule(small.embeddings, name) if name else small.embeddings
        if isinstance(module, nn.Embedding):
            target.weight.copy_(module.weight if projection is not None else module.weight[:, kept])
        elif isinstance(module, nn.LayerNorm):
            _copy_norm(module, target, list(range(len(module.weight))) if projection is not None else kept)
    if projection is not None:
        _copy_linear(projection, small.embeddings_project, rows=kept)
    table, own = bias_table(source), bias_table(student)
    if table is not None and own is not None:
        own.weight.copy_(table.weight[:, heads])


def _copy_norm(large: nn.LayerNorm, small: Any, kept: list[int]) -> None:
    small.weight.copy_(large.weight[kept])
    small.bias.copy_(large.bias[kept])


def _copy_linear(large: nn.Linear, small: Any, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> None:
    weight = large.weight if rows is None else large.weight[list(rows)]
    small.weight.copy_(weight if columns is None else weight[:, list(columns)])
    if large.bias is not None:
        small.bias.copy_(large.bias if rows is None else large.bias[list(rows)])


def _copy_layer(large: Layer, small: Layer, kept: list[int], heads: list[int], fact: LayerFacts, old: int, new: int) -> None:
    """Copy a layer: heads refitted to their size, neurons by the mean square of what they write."""
    scale = fact.inputs[kept].sqrt().clamp_min(1e-6)
    scale = torch.cat([scale / scale.mean(), torch.ones(1, dtype=torch.float64)])  # the bias reads a constant one
    for place, head in enumerate(heads):
        theirs, ours = slice(head * old, (head + 1) * old), slice(place * new, (place + 1) * new)
        reads = [torch.cat([part.weight[theirs][:, kept], part.bias[theirs, None]], 1).double() for part in _projections(large)]
        writes = large.attention_output.weight[kept][:, theirs].double()
        if old != new:
            query, key = _refit(reads[0] * scale, reads[1] * scale, new)
            value, output = _refit(reads[2] * scale, writes.T, new)
            longer = (new / old) ** 0.25  # scores are divided by the root of the new size, and were by that of the old one
            reads, writes = [longer * query / scale, longer * key / scale, value / scale], output.T
        for part, read in zip(_projections(small), reads, strict=True):
            part.weight[ours] = read[:, :-1].float()
            part.bias[ours] = read[:, -1].float()
        small.attention_output.weight[:, ours] = writes.float()
    small.attention_output.bias.copy_(large.attention_output.bias[kept])
    neurons = top_positions(fact.neurons * large.ffn_out.weight[kept].double().square().sum(0), small.ffn_in.out_features)
    _copy_linear(large.ffn_in, small.ffn_in, neurons, kept)
    _copy_linear(large.ffn_out, small.ffn_out, kept, neurons)
    _copy_norm(large.attention_norm, small.attention_norm, kept)
    _copy_norm(large.output_norm, small.output_norm, kept)


def _projections(layer: Layer) -> list[Any]:
    return [layer.query, layer.key, layer.value]


def _refit(first: torch.Tensor, second: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two factors of `size` rows whose product A'B is nearest to that of the given ones.

    Args:
        first: (old size, columns).
        second: (old size, columns of its own).
        size: rows wanted; what is beyond the old size adds nothing, but can learn: small random rows against zeros.
    """
    (q1, r1), (q2, r2) = torch.linalg.qr(first.T), torch.linalg.qr(second.T)
    u, values, vh = torch.linalg.svd(r1 @ r2.T)
    rank = min(size, len(values))
    roots = values[:rank].sqrt()
    found = (q1 @ u[:, :rank] * roots).T, (q2 @ vh[:rank].T * roots).T
    if rank == size:
        return found
    spare = size - rank
    noise = SMALL * torch.randn(spare, first.shape[1], dtype=first.dtype, generator=torch.Generator().manual_seed(spare))
    return torch.cat([found[0], noise]), torch.cat([found[1], torch.zeros(spare, second.shape[1], dtype=second.dtype)])


def _copy_head(source: Any, student: Any, kept: list[int], calibration: Calibration) -> None:
    """Copy the head: of its own hidden layer, if it has one, the units that the logits weigh most."""
    family = family_of(source.config.model_type)
    last, own = (find_submodule(model, family.last_linear(calibration.target)) for model in (source, student))
    inner = kept
    for part in family.head_parts(calibration.target):
        for name, module in find_submodule(source, part).named_modules(prefix=part):
            if isinstance(module, nn.Linear) and module is not last:
                inner = top_positions(last.weight.square().sum(0) * module.weight[:, kept].square().sum(1), len(kept))
                _copy_linear(module, find_submodule(student, name), inner, kept)
    _copy_linear(last, own, columns=inner)
