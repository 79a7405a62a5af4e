"""Run a model layer by layer on several batches, and read the inputs of its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import nn

from compress.editing.encoder_layers import hidden_states
from compress.models.device import Batch
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers
from compress.models.types import TransformersModel


class Stop(Exception):
    """Raised by a hook to end a forward pass early; its argument is what the hook read."""


@dataclass
class LayerInputs:
    """The inputs of one layer for every batch: hidden states, and the arguments that all layers share (masks, position biases)."""

    states: list[torch.Tensor]  # (batch, length, hidden) each
    arguments: list[tuple[tuple[torch.Tensor, ...], Mapping[str, torch.Tensor]]]  # further positional and keyword arguments

    def run(self, layer: Layer, number: int) -> torch.Tensor:
        """Run a layer on batch `number` and return its output, (batch, length, hidden)."""
        positional, keywords = self.arguments[number]
        return hidden_states(layer.module(self.states[number], *positional, **keywords))

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


def first_layer_inputs(model: TransformersModel, batches: Iterable[Batch]) -> LayerInputs:
    """Run the embeddings only and return the inputs of the first layer for every batch."""
    inputs = LayerInputs([], [])
    position_bias = bool(family_of(model.config.model_type).position_bias)

    def catch(module: nn.Module, positional: tuple[torch.Tensor, ...], keywords: dict[str, torch.Tensor]) -> None:
        if positional:
            state, *rest = positional
            if position_bias:  # the same for every text of the batch: store it once
                rest[1] = rest[1][:1].clone()
            inputs.states.append(state)
            inputs.arguments.append((tuple(rest), keywords))
        else:
            keywords = dict(keywords)
            inputs.states.append(keywords.pop("hidden_states"))
            inputs.arguments.append(((), keywords))
        raise Stop

    hook = next(encoder_layers(model)).module.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for batch in batches:
            with suppress(Stop):
                model(**batch)
    finally:
        hook.remove()
    return inputs


@contextmanager
def captured_inputs(*modules: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Yield a list that holds the first input of each module, updated whenever the module runs within this context."""
    captured: list[torch.Tensor] = [torch.empty(0)] * len(modules)

    def keep(position: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            captured[position] = arguments[0]

        return hook

    hooks = [module.register_forward_pre_hook(keep(position)) for position, module in enumerate(modules)]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()
