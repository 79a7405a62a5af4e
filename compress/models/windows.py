"""Attention within a window in PyTorch, by blocks of tokens where texts are long (ModernBERT).

transformers computes the scores of all pairs of tokens, and hides those beyond the window. With blocks as long as the window, a query sees
keys of its own block and of its two neighbours, so that time and memory grow with the length, not with its square. The graph does the same
(compress.export.block_attention).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

LONG_TEXT = 1024  # tokens: from here on blocks are faster; shorter texts are computed as transformers does
IMPLEMENTATION = "windows"  # name of the attention function in transformers
SMALLEST = 16  # tokens of a block


def use_blocks(config: Any) -> None:
    """Let models of a config with a window compute long texts by blocks, in place, if transformers would use PyTorch's own attention."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if getattr(config, "sliding_window", None) and config._attn_implementation == "sdpa":
        ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, windowed_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, sdpa_mask)
        config._attn_implementation = IMPLEMENTATION


def windowed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return what transformers' own function for PyTorch's attention does: (batch, length, heads, size).

    Args:
        module: that attends.
        query: (batch, heads, length, size), as keys and values.
        key: likewise.
        value: likewise.
        attention_mask: what a query sees, (batch, 1, length, length) bool.
        dropout: probability, in training.
        scaling: of the scores.
        sliding_window: the smallest distance that is hidden; None: the whole text is visible.
        others: passed on.
    """
    if sliding_window is None or attention_mask is None or attention_mask.dtype != torch.bool or query.shape[2] < LONG_TEXT:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        options = {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window, **others}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    real = attention_mask[:, 0].diagonal(dim1=-2, dim2=-1)  # a token sees itself unless it is padding: (batch, length)
    return _by_blocks(query, key, value, real, sliding_window - 1, dropout, scaling), None


def _by_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, real: torch.Tensor, window: int, dropout: float, scaling: float | None
) -> torch.Tensor:
    """Attend within a window; `real` says which tokens are no padding, (batch, length)."""
    batch, heads, length, size = query.shape
    block = max(window, SMALLEST)
    rest = -length % block
    queries = functional.pad(query, (0, 0, 0, rest)).unflatten(2, (-1, block))  # (batch, heads, blocks, block, size)
    near = (functional.pad(part, (0, 0, block, rest + block)).unfold(2, 3 * block, block) for part in (key, value))
    keys, values = (part.permute(0, 2, 1, 4, 3).flatten(0, 1) for part in near)  # (batch * blocks, heads, 3 blocks, size)
    visible = functional.pad(real, (block, rest + block)).unfold(1, 3 * block, block)  # (batch, blocks, 3 blocks)
    position = torch.arange(3 * block, device=query.device)
    within = (position[None] - block - position[:block, None]).abs() <= window  # (block, 3 blocks)
    hidden = ~(visible[:, :, None] & within).flatten(0, 1)[:, None]  # (batch * blocks, 1, block, 3 blocks)
    mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill(hidden, torch.finfo(query.dtype).min)
    queries = queries.transpose(1, 2).flatten(0, 1)  # (batch * blocks, heads, block, size)
    mixed = functional.scaled_dot_product_attention(queries, keys, values, mask, dropout, scale=scaling)
    return mixed.transpose(1, 2).reshape(batch, -1, heads, size)[:, :length]
