"""Settings of `factorize`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.settings.base import CALIBRATION, DEVICE, HARDWARE, METHOD, TARGET, UNLABELED, Device, Fraction, Positive, Settings

Rank = Annotated[int, Field(ge=1, le=16_384)]


class FactorizeSettings(Settings):
    """`factorize`: replace linears and the token embeddings by products of two smaller matrices."""

    method: Annotated[Literal["fisher", "activations", "plain"], METHOD] = Field(
        "fisher",
        description="Weights of the approximation error: fisher: the linear's inputs and the gradients of its outputs; activations: the "
        "inputs only; plain: none, the SVD of the weights.",
    )
    target_flops: Annotated[Fraction | None, TARGET] = Field(None, description="Share of the encoder's FLOPs to keep, such as 0.75.")
    target_params: Annotated[Fraction | None, TARGET] = Field(
        None, description="Share of the encoder's parameters (without embeddings) to keep, such as 0.75."
    )
    rank: Annotated[Rank | None, TARGET] = Field(None, description="One rank for all linears that it makes smaller.")
    ratio: Annotated[Fraction | None, TARGET] = Field(None, description="Share of its weights that each linear keeps.")
    embedding_rank: Annotated[Rank | None, TARGET] = Field(None, description="Rank of the token embeddings; alone or with another target.")
    refit: Annotated[bool, METHOD] = Field(
        True, description="Refit the output projections by least squares on the factorized model's inputs."
    )
    seq_len: Annotated[Annotated[int, Field(ge=1, le=8192)] | None, TARGET] = Field(
        None, description="Sequence length in tokens, for FLOPs. Default: the task's mean length."
    )
    calib_samples: Annotated[Positive, CALIBRATION] = Field(
        2048, description="Training examples for error weights and refits; fewer if they exceed 50,000 tokens."
    )
    unlabeled: Annotated[str | None, CALIBRATION] = Field(
        None, description=f"Unlabeled texts to use instead of training examples: {UNLABELED}"
    )
    device: Annotated[Device, HARDWARE] = Field("auto", description=DEVICE)

    @property
    def asked(self) -> dict[str, float]:
        """The targets that were given."""
        targets = {name: getattr(self, name) for name in ("target_flops", "target_params", "rank", "ratio", "embedding_rank")}
        return {name: value for name, value in targets.items() if value is not None}

    @property
    def changes_linears(self) -> bool:
        """Whether a target of the linears was given."""
        return bool(set(self.asked) - {"embedding_rank"})

    @model_validator(mode="after")
    def _one_target(self) -> FactorizeSettings:
        if not self.asked or len(set(self.asked) - {"embedding_rank"}) > 1:
            raise ValueError("give one of target_flops, target_params, rank and ratio, or embedding_rank, or both")
        return self
