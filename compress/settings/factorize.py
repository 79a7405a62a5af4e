"""Settings of `factorize`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.settings.base import Device, Fraction, Positive, Settings


class FactorizeSettings(Settings):
    """`factorize`: two smaller matrices in the place of one, of linears and of the word embeddings."""

    method: Literal["fisher", "activations", "plain"] = Field(
        "fisher",
        description="What errors are weighed by: fisher: the inputs that a linear sees and what its outputs are worth to the answer; "
        "activations: the inputs alone; plain: nothing, the SVD of the weights.",
    )
    target_flops: Fraction | None = Field(None, description="Share of the encoder's FLOPs to keep, e.g. 0.75.")
    target_params: Fraction | None = Field(None, description="Share of the encoder's parameters (embeddings aside) to keep, e.g. 0.75.")
    rank: Annotated[int, Field(ge=1, le=16_384)] | None = Field(None, description="The same rank for every linear that it makes smaller.")
    ratio: Fraction | None = Field(None, description="Share of its own weights that every linear keeps.")
    embedding_rank: Annotated[int, Field(ge=1, le=16_384)] | None = Field(
        None, description="Columns of the table of words, with a projection behind it."
    )
    refit: bool = Field(True, description="Refit the output projections by least squares, on the factorized model's own inputs.")
    seq_len: Annotated[int, Field(ge=1, le=8192)] | None = Field(
        None, description="Tokens of a text, for FLOPs (default: the task's mean length)."
    )
    calib_samples: Positive = Field(2048, description="Training examples for weights and refits, fewer beyond 50,000 tokens.")
    unlabeled: str | None = Field(None, description="Texts without labels to use instead: .txt, or a table with the task's columns.")
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for: at most one of the linears' targets, and the rank of the embeddings."""
        named = {name: getattr(self, name) for name in ("target_flops", "target_params", "rank", "ratio", "embedding_rank")}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def changes_linears(self) -> bool:
        """Tell whether a target of the linears was given."""
        return bool(set(self.asked) - {"embedding_rank"})

    @model_validator(mode="after")
    def _one_target(self) -> FactorizeSettings:
        if not self.asked or len(set(self.asked) - {"embedding_rank"}) > 1:
            raise ValueError("give one of target_flops, target_params, rank and ratio, or embedding_rank, or one and this")
        return self
