"""Which weights must be cut together: torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900) of an encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compress.editing.gradients import requirements_kept
from compress.models.task_loss import logits_of

TRACED_TOKENS = 4


def dependency_graph(model: Any) -> Any:
    """Trace a model with its head, dense or pruned; returns a `torch_pruning.DependencyGraph`.

    The graph is followed from the gradients of one short input, so weights that were frozen are thawed while it runs.
    The model is left in evaluation mode.
    """
    import torch_pruning

    token = (model.config.pad_token_id or 0) + 1  # any that is not padding
    ids = torch.full((1, TRACED_TOKENS), token, device=next(model.parameters()).device)
    with requirements_kept(model), torch.enable_grad():
        model.requires_grad_(True)
        return torch_pruning.DependencyGraph().build_dependency(
            model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, output_transform=logits_of, verbose=False
        )


def group_within(graph: Any, linear: nn.Linear, module: nn.Module) -> Any:
    """Return the pruning group of all of a linear's outputs, without members outside of `module`.

    What is left out is coupled in the graph only: MPNet adds one relative position bias to the scores of every layer,
    by which the graph takes the heads of all layers for one group.
    """
    import torch_pruning

    whole = graph.get_pruning_group(linear, torch_pruning.prune_linear_out_channels, list(range(linear.out_features)))
    own = set(module.modules())
    found = torch_pruning.Group()
    found._group = [item for item in whole.items if item.dep.target.module in own]
    found._DG = graph
    return found
