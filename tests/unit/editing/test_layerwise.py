"""Running a model layer by layer."""

from __future__ import annotations

import torch

from compress.editing.layerwise import captured_inputs, first_layer_inputs
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from tests import tiny

CPU = torch.device("cpu")


@torch.no_grad()
def test_layers_one_by_one_equal_the_whole_model(family: str) -> None:
    model = tiny.make_model(family)
    batches = [to_tensors(tiny.encoded(family).batch(range(start, 12, 2)), model, CPU) for start in range(2)]
    inputs = first_layer_inputs(model, batches)
    for layer in encoder_layers(model):
        for number in range(len(batches)):
            inputs.states[number] = inputs.run(layer, number)
    for batch, state in zip(batches, inputs.states, strict=True):
        expected = model(**batch, output_hidden_states=True).hidden_states[-1]
        mask = batch["attention_mask"].bool()
        torch.testing.assert_close(state[mask], expected[mask], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_attention_context_is_the_output_projections_input(family: str) -> None:
    model = tiny.make_model(family)
    inputs = first_layer_inputs(model, [to_tensors(tiny.encoded(family).batch(range(4)), model, CPU)])
    layer = next(encoder_layers(model))
    with captured_inputs(layer.attention_output, layer.output_norm) as captured:
        inputs.run(layer, 0)
    assert torch.equal(inputs.attention_context(layer, 0), captured[0])
    assert captured[1].shape == inputs.states[0].shape
