"""Statistics of a model on a sample of texts that says which of its dimensions, heads and neurons matter most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compress.distill.init_texts import InitTexts
from compress.editing.layer_norms import hidden_norms
from compress.editing.width import top_positions
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.relative_positions import bias_table
from compress.models.types import TransformersModel

OUTLIER = 3.0  # standard deviations of a LayerNorm's gains or biases (Kovaleva et al. 2021, arXiv 2105.06990)
TINY = 1e-30


@dataclass
class LayerStatistics:
    """Sums over the real tokens of a sample of texts, for one layer, in float64.

    Attributes:
        inputs: (hidden,) squares of the inputs of query, key and value.
        context: (heads, size, size) products of each head's part of the output projection's input.
        neurons: (ffn,) squares of the FFN's activations.
    """

    inputs: torch.Tensor
    context: torch.Tensor
    neurons: torch.Tensor

    def add_inputs(self, values: torch.Tensor) -> None:
        """Add the inputs of the query projection, (tokens, hidden)."""
        self.inputs += values.square().sum(0)

    def add_context(self, values: torch.Tensor) -> None:
        """Add the inputs of the output projection, (tokens, heads * size)."""
        by_head = values.unflatten(-1, self.context.shape[:2])  # (tokens, heads, size)
        self.context += torch.einsum("thi,thj->hij", by_head, by_head)

    def add_neurons(self, values: torch.Tensor) -> None:
        """Add the inputs of the FFN's second linear, (tokens, ffn)."""
        self.neurons += values.square().sum(0)


def outlier_dimensions(model: TransformersModel) -> list[int]:
    """Return the hidden dimensions whose gain or bias is an outlier in at least half of the LayerNorms."""
    layer_norms = hidden_norms(model)
    votes = torch.zeros(model_shape(model).hidden)
    for norm in layer_norms:
        values = torch.stack([part.detach() for part in (norm.weight, getattr(norm, "bias", None)) if part is not None])
        outliers = (values - values.mean(1, keepdim=True)).abs() > OUTLIER * values.std(1, keepdim=True)
        votes += outliers.any(0)
    return torch.nonzero(votes * 2 >= len(layer_norms)).flatten().tolist()


def collect_statistics(model: TransformersModel, texts: InitTexts) -> list[LayerStatistics]:
    """Run the sample of texts and return the statistics of each layer of a dense model."""
    shape = model_shape(model)
    statistics = [
        LayerStatistics(
            torch.zeros(shape.hidden, dtype=torch.float64),
            torch.zeros(layer.heads, shape.head_size, shape.head_size, dtype=torch.float64),
            torch.zeros(layer.ffn, dtype=torch.float64),
        )
        for layer in shape.layers
    ]
    mask: list[torch.Tensor] = []
    done: set[int] = set()

    def on_real_tokens(add: Callable[[torch.Tensor], None]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if id(module) not in done:  # DeBERTa's projections run again, on the embeddings of positions
                done.add(id(module))
                add(args[0][mask[0]].double())

        return hook

    hooks = []
    for layer, sums in zip(encoder_layers(model), statistics, strict=True):
        for module, add in (
            (layer.query, sums.add_inputs),
            (layer.attention_output, sums.add_context),
            (layer.ffn_out, sums.add_neurons),
        ):
            hooks.append(module.register_forward_hook(on_real_tokens(add)))  # pyright: ignore[reportOptionalMemberAccess] (dense)
    try:
        for batch in texts.batches(model):
            mask[:] = [batch["attention_mask"].bool()]
            done.clear()
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return statistics


def summed_over_owners(statistics: Sequence[LayerStatistics], owners: Sequence[int]) -> list[LayerStatistics]:
    """Return for each layer the sums over all layers that have its weights."""
    sums: dict[int, LayerStatistics] = {}
    for layer, owner in zip(statistics, owners, strict=True):
        whole = sums.setdefault(owner, LayerStatistics(*(torch.zeros_like(part) for part in (layer.inputs, layer.context, layer.neurons))))
        whole.inputs += layer.inputs
        whole.context += layer.context
        whole.neurons += layer.neurons
    return [sums[owner] for owner in owners]


def select_heads(model: TransformersModel, statistics: Sequence[LayerStatistics], count: int) -> list[list[int]]:
    """Return the heads of each layer whose output in the residual stream has the largest mean square.

    If all layers share a table of relative positions (MPNet), the same heads in all layers.
    """
    scores = []
    for layer, sums in zip(encoder_layers(model), statistics, strict=True):
        weight = layer.attention_output.weight.double().unflatten(-1, sums.context.shape[:2])  # (hidden, heads, size)
        scores.append(torch.einsum("ohi,hij,ohj->h", weight, sums.context, weight))
    if bias_table(model) is not None:
        scores = [torch.stack([score / score.sum().clamp_min(TINY) for score in scores]).sum(0)] * len(scores)
    return [top_positions(score, count) for score in scores]
