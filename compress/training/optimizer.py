"""AdamW that updates only those rows of an embedding table that a batch has used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class RowwiseAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101); of a parameter with a sparse gradient only the rows in it change.

    Rows without a gradient keep their weights and moments, as in `torch.optim.SparseAdam`: a step costs as much as the batch has
    tokens, not as the table has rows. Such tables do not decay. Everything else is PyTorch's own AdamW.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient."""
        tables: list[tuple[nn.Parameter, torch.Tensor, dict[str, Any]]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    tables.append((parameter, parameter.grad.coalesce(), group))
                    parameter.grad = None
        super().step(closure)
        for parameter, gradient, group in tables:
            self._update_rows(parameter, gradient, group)

    def _update_rows(self, table: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """Take a step of Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) in the rows of a coalesced gradient."""
        state = self.state[table]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()
        first, second = group["betas"]
        mean = state["exp_avg"][rows].lerp_(values, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(values, values, value=1 - second)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        step = float(state["step"])
        scale = (square / (1 - second**step)).sqrt_().add_(group["eps"])
        table.index_add_(0, rows, mean.div_(scale), alpha=-group["lr"] / (1 - first**step))


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scale all gradients down to a global norm of at most `limit`; returns the norm before. Sparse ones are coalesced."""
    gradients: list[torch.Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            holder = parameter.grad.values().detach()  # a tensor of the same shape that holds the values as its gradient
            holder.grad = parameter.grad.values()
            gradients.append(holder)
        else:
            gradients.append(parameter)
    return float(nn.utils.clip_grad_norm_(gradients, limit))
