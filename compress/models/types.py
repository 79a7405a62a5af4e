"""Types of what this package reads and passes on. They exist for annotations and cost nothing at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

Config = dict[str, Any]
"""The contents of a `config.json`; its keys differ by family."""

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor
    from transformers import PreTrainedModel

    class TransformersModel(PreTrainedModel):
        """A transformers model with its head, dense or compressed, as `compress.load_model` returns it."""

        def to(self, *args: object, **options: object) -> Self:  # transformers' own signature hides `self`
            """Move or cast the model in place and return it."""
            ...

    StateDict = dict[str, Tensor]
    """Weights by their names."""
else:
    TransformersModel = StateDict = object
