"""Run a model layer by layer on several batches, and read the inputs of its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import nn

from compress.editing.encoder_layers import hidden_states, replaced_layers
from compress.models.device import Batch
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers, layer_list
from compress.models.token_reduction import token_pass, token_share
from compress.models.types import TransformersModel


class Stop(Exception):
    """Raised by a hook to end a forward pass early; its argument is what the hook read."""


Arguments = tuple[tuple[torch.Tensor, ...], Mapping[str, torch.Tensor]]  # positional and by keyword


@dataclass
class LayerInputs:
    """The inputs of one layer for every batch: hidden states, and the arguments (masks, positions) that all layers of a kind share."""

    states: list[torch.Tensor]  # (batch, length, hidden) each
    arguments: list[dict[str, Arguments]]  # of each batch, by the kind of layer (`Layer.kind`)
    masks: list[torch.Tensor]  # the tokens of the texts, (batch, length) bool each
    kept: list[torch.Tensor]  # those that the layers below have not dropped, the same shape

    def run(self, layer: Layer, number: int) -> torch.Tensor:
        """Run a layer on batch `number` and return its output, (batch, length, hidden)."""
        return self._run(layer, number)[0]

    def kept_after(self, layer: Layer, number: int) -> torch.Tensor:
        """Return the tokens of batch `number` that a layer leaves, (batch, length) bool."""
        return self._run(layer, number)[1] if token_share(layer.module) < 1 else self.kept[number]

    def advance(self, layer: Layer, number: int) -> None:
        """Run a layer on batch `number`: its output is the input of the next one."""
        self.states[number], self.kept[number] = self._run(layer, number)

    def _run(self, layer: Layer, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        positional, keywords = self.arguments[number][layer.kind]
        with token_pass(self.masks[number], self.kept[number]) as tokens:
            output = hidden_states(layer.module(self.states[number], *positional, **keywords))
        return output, tokens.kept

    def attention_context(self, layer: Layer, number: int) -> torch.Tensor:
        """Run a layer on batch `number` up to its attention's output projection; return that input, (batch, length, heads * head_size)."""

        def stop(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            raise Stop(arguments[0])

        hook = layer.attention_output.register_forward_pre_hook(stop)
        try:
            self.run(layer, number)
        except Stop as stopped:
            return stopped.args[0]
        finally:
            hook.remove()
        raise AssertionError("a layer that never projects its attention")


class _Recorder(nn.Module):
    """Replaces the layers of one kind: records what such a layer gets; the `last` one ends the pass."""

    def __init__(self, kind: str, last: bool) -> None:
        super().__init__()
        self.attention_type, self.last = kind, last

    def forward(self, hidden_states: torch.Tensor, *positional: torch.Tensor, **keywords: torch.Tensor) -> torch.Tensor:
        """Return (batch, length, hidden) unchanged."""
        self.states, self.arguments = hidden_states, (positional, keywords)
        if self.last:
            raise Stop
        return hidden_states


def first_layer_inputs(model: TransformersModel, batches: Iterable[Batch]) -> LayerInputs:
    """Run the embeddings only; return the first layer's hidden states, and the arguments of every kind of layer, for every batch."""
    inputs = LayerInputs([], [], [], [])
    position_bias = bool(family_of(model.config.model_type).position_bias)
    kinds = list(dict.fromkeys(layer.kind for layer in encoder_layers(model)))
    recorders = [_Recorder(kind, kind == kinds[-1]) for kind in kinds]
    with replaced_layers(layer_list(model), recorders):
        for batch in batches:
            with suppress(Stop):
                model(**batch)
            if position_bias:  # the same for every text of the batch: store it once
                (mask, bias, *rest), keywords = recorders[0].arguments
                recorders[0].arguments = (mask, bias[:1].clone(), *rest), keywords
            inputs.states.append(recorders[0].states)
            inputs.masks.append(batch["attention_mask"].bool())
            inputs.arguments.append({recorder.attention_type: recorder.arguments for recorder in recorders})
    inputs.kept = list(inputs.masks)
    return inputs


@contextmanager
def captured_inputs(*modules: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Yield a list that holds the first input of each module, of the first time that it runs within this context.

    DeBERTa's projections run twice: on the tokens, then on the embeddings of positions.
    """
    captured: list[torch.Tensor] = [torch.empty(0)] * len(modules)
    done: set[int] = set()

    def keep(position: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            if position not in done:
                done.add(position)
                captured[position] = arguments[0]

        return hook

    hooks = [module.register_forward_pre_hook(keep(position)) for position, module in enumerate(modules)]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()
