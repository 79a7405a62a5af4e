"""Find the weights that must be pruned together: torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from compress.editing.gradients import preserved_requires_grad
from compress.models.task_loss import logits_of
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    from torch_pruning import DependencyGraph, Group

TRACED_TOKENS = 4


def dependency_graph(model: TransformersModel) -> DependencyGraph:
    """Trace the dependency graph of a model with its head, dense or pruned.

    torch-pruning follows the gradients of one short input, so all weights require gradients while it runs. The model is left in
    evaluation mode.
    """
    import torch_pruning

    token = (model.config.pad_token_id or 0) + 1  # any token but padding
    ids = torch.full((1, TRACED_TOKENS), token, device=next(model.parameters()).device)
    with preserved_requires_grad(model), torch.enable_grad():
        model.requires_grad_(True)
        return torch_pruning.DependencyGraph().build_dependency(
            model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, output_transform=logits_of, verbose=False
        )


def group_of_units(inputs: Sequence[nn.Linear], output: nn.Linear) -> Group:
    """Return the group of what a sublayer's units are made of: rows of the linears that lead in, columns of the one that leads out.

    It is what `group_within` finds, without tracing: rotated queries and keys are beyond the graph's reach.
    """
    import torch_pruning
    from torch_pruning.dependency import Dependency, Node

    group = torch_pruning.Group()
    for linear in (*inputs, output):
        prune = torch_pruning.prune_linear_in_channels if linear is output else torch_pruning.prune_linear_out_channels
        node = Node(linear, None)
        group.add_dep(Dependency(prune, prune, node, node), list(range(output.in_features)))
        group.items[-1].root_idxs = list(range(output.in_features))
    return group


def group_within(graph: DependencyGraph, linear: nn.Linear, module: nn.Module) -> Group:
    """Return the pruning group of all of a linear's outputs, without members outside of `module`.

    Members outside are coupled in the graph only: MPNet adds one relative position bias to the scores of every layer, so the
    graph puts the heads of all layers into one group.
    """
    import torch_pruning

    whole = graph.get_pruning_group(linear, torch_pruning.prune_linear_out_channels, list(range(linear.out_features)))
    members = set(module.modules())
    group = torch_pruning.Group()
    group._group = [item for item in whole.items if item.dep.target.module in members]
    group._DG = graph  # pyright: ignore[reportAttributeAccessIssue]
    return group
