"""bf16 graphs: rounding as in PyTorch, shared weights cast once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress.export.graph import build_graph
from compress.quantize.bf16 import bf16_graph, to_bf16
from tests import tiny
from tests.unit.quantize import half_precision

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays(np.float32, 8, elements=FLOATS))
def test_bfloat16_is_torchs(array: np.ndarray) -> None:
    import torch

    expected = torch.from_numpy(array.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(to_bf16(array), expected)


def test_a_shared_table_and_weight_are_cast_once() -> None:
    graph = build_graph(tiny.make_model())
    names = [node.output[0] for node in bf16_graph(graph).graph.node]
    assert len(set(names)) == len(names)


def test_every_family_gives_nearly_the_same_logits_in_bf16(family: str) -> None:
    half_precision.check_logits(bf16_graph, family, 0.1)


def test_fused_attention_stays_close_in_bf16() -> None:
    half_precision.check_fused_attention(bf16_graph)


@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
def test_every_kind_of_output_is_float32_in_bf16(target: str) -> None:
    half_precision.check_output_type(bf16_graph, target)
