"""Settings of `distill`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings import distill_losses
from compress.settings.augmentation import AUGMENT, AUGMENT_MODEL, Augment, AugmentModel
from compress.settings.base import METHOD, TRAINING, UNLABELED, Only, Without
from compress.settings.finetune import DEFAULT_EPOCHS, TrainSettings

LEARNS_FROM_TEACHER = Without("method", "theseus")


def _only_method(document: Mapping[str, object]) -> str:
    """Return the method of a document of `distill` that gives exactly one, else an empty string."""
    method = document.get("method")
    single = method[0] if isinstance(method, list) and len(method) == 1 else method
    return single if isinstance(single, str) else ""


class DistillSettings(TrainSettings):
    """`distill`: train a small student on its teacher's outputs. The method sets the defaults."""

    epochs: Annotated[int | None, TRAINING] = Field(
        None, ge=1, le=1000, description="Passes over the texts. Default: 3 to 10, as many as reach 1,000 steps; 3 for tinybert."
    )
    lr: Annotated[float | None, TRAINING] = Field(
        None,
        gt=0,
        le=1,
        description="Peak learning rate. Default: 2e-4 up to hidden size 512, 6e-5 above; 1.5x that with more than 20 labels; 5e-4 and "
        "1.5e-4 for a SPEC of another hidden size; as finetune if only labels count; 3e-5 for tinybert; 1e-3 for a BiLSTM or a static "
        "model.",
    )
    method: Annotated[list[str], METHOD] = Field(
        list(distill_losses.DEFAULT),
        min_length=1,
        max_length=16,
        description=f"Losses, as NAME or NAME:WEIGHT: {', '.join(distill_losses.METHODS)}.",
    )
    match: Annotated[str | None, METHOD, Only("method", *distill_losses.LAYERED)] = Field(
        None,
        max_length=4096,
        description="Layers to match: last, uniform, all (embeddings included), or pairs TEACHER-STUDENT per loss: "
        "hidden:0-0,12-4;gram:12-4. Default: all for nmse and tinybert, else last.",
    )
    temperature: Annotated[float | None, METHOD, Only("method", "logits", "dkd", "listwise")] = Field(
        None, gt=0, le=100, description="Temperature of the logits of teacher and student. Default: 2; 1 for tinybert."
    )
    hard_weight: Annotated[float | None, METHOD, LEARNS_FROM_TEACHER, Without("augment"), Without("unlabeled")] = Field(
        None, ge=0, le=1, description="Weight of the loss on labels; the teacher's logits get the rest. Default: 0.1; 0 for tinybert, cofi."
    )
    dropout: Annotated[bool | None, TRAINING] = Field(
        None, description="Train with the dropout of the student's config. Default: only for theseus and tinybert."
    )
    relation_heads: Annotated[int | None, METHOD, Only("method", "relations")] = Field(
        None, ge=1, le=1024, description="Number of relation heads. Default: the teacher's heads, or fewer."
    )
    dkd_beta: Annotated[float | None, METHOD, Only("method", "dkd")] = Field(
        None, ge=0, le=100, description="Weight of the non-target classes. Default: 8."
    )
    quantize: Annotated[Literal["int8"] | None, METHOD, LEARNS_FROM_TEACHER] = Field(
        None,
        description="Quantization-aware: train with the rounding of static int8 (weights per channel, ranges of activations learned); "
        "'compress quantize --method static' uses these ranges.",
    )
    layer_epochs: Annotated[int | None, METHOD, Only("method", *distill_losses.LAYERED, "cofi")] = Field(
        None, ge=1, le=1000, description="Epochs of a first stage with the layer losses only. Default: none; 10 for tinybert."
    )
    layer_lr: Annotated[float | None, METHOD, Only("layer_epochs")] = Field(
        None, gt=0, le=1, description="Peak learning rate of the first stage. Default: --lr; 5e-5 for tinybert."
    )
    init: Annotated[Literal["auto", "layers", "importance", "random"], METHOD] = Field(
        "auto",
        description="Initial weights of a SPEC's student: layers: the teacher's layers; importance: its most important dimensions, "
        "heads and neurons; random; auto: layers, else importance, with lower or spread layers by a short trial. BiLSTMs start from the "
        "teacher's token embeddings, static students from its outputs for single tokens.",
    )
    unlabeled: Annotated[str | None, TRAINING, LEARNS_FROM_TEACHER] = Field(
        None, description=f"Additional unlabeled texts to learn from: {UNLABELED}"
    )
    augment: Annotated[Augment, LEARNS_FROM_TEACHER] = Field(0, description=f"{AUGMENT}. The teacher labels them.")
    augment_model: AugmentModel = Field(None, description=AUGMENT_MODEL)

    @field_validator("method", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @classmethod
    def usual_epochs(cls, document: Mapping[str, object]) -> int | None:
        """Return the epochs of TinyBERT's second stage; else None: they depend on the number of texts."""
        return DEFAULT_EPOCHS if _only_method(document) == "tinybert" else None

    @model_validator(mode="before")
    @classmethod
    def _method_defaults(cls, document: object) -> object:
        if not isinstance(document, dict):
            return document
        defaults = {**distill_losses.DEFAULTS, **distill_losses.METHOD_DEFAULTS.get(_only_method(document), {})}
        return {**document, **{key: value for key, value in defaults.items() if document.get(key) is None}}

    @model_validator(mode="after")
    def _compatible(self) -> DistillSettings:
        losses = set(self.losses)
        if self.budget and (self.layer_epochs or "theseus" in losses):
            raise ValueError(
                "a budget needs a single training stage: it goes neither with layer_epochs (which tinybert sets) nor with theseus"
            )
        ranked = next((name for name in distill_losses.RANKED if name in losses), None)
        if ranked and (self.augment or self.unlabeled):
            raise ValueError(f"method {ranked} compares the candidates of a query: it goes with neither augment nor unlabeled")
        if not losses & {*distill_losses.OUTPUTS, "theseus"}:
            if self.augment or self.unlabeled:
                raise ValueError(
                    "no loss trains the head, because labels are ignored with augment or unlabeled: add the method logits or dkd"
                )
            if not self.hard_weight:
                raise ValueError("no loss trains the head: add the method logits or dkd, or raise hard_weight")
        self.layers_matched  # noqa: B018 (raises for a malformed match)
        return self

    def chosen(self, field: str) -> tuple[object, ...]:
        """Return what a condition compares; of `method` the names of the losses, `tinybert` and `theseus` among them."""
        if field == "method":
            return tuple(dict.fromkeys([*distill_losses.parse_methods(self.method), *self.losses]))
        return super().chosen(field)

    @property
    def losses(self) -> dict[str, float]:
        """The losses by name with their weights; `tinybert` is expanded to its losses."""
        losses = distill_losses.parse_methods(self.method)
        return distill_losses.parse_methods(list(distill_losses.TINYBERT)) if "tinybert" in losses else losses

    @property
    def layers_matched(self) -> dict[str, str | distill_losses.Pairs]:
        """What each layer loss matches: `last`, `uniform`, `all`, or pairs of layers."""
        return distill_losses.parse_match(self.match, [name for name in self.losses if name in distill_losses.LAYERED])
