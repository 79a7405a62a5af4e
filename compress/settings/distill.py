"""Settings of `distill`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings import distill_losses
from compress.settings.augmentation import AUGMENT_MODEL, Augment, AugmentModel, check_augment
from compress.settings.finetune import DEFAULT_EPOCHS, TrainSettings


def _only_method(document: dict[str, Any]) -> str:
    """Return the one method that a document of `distill` names; empty where there are more or none."""
    method = document.get("method")
    alone = method[0] if isinstance(method, list) and len(method) == 1 else method
    return alone if isinstance(alone, str) else ""


class DistillSettings(TrainSettings):
    """`distill`: train a small student to answer as its teacher does. What is not given is filled in as the method has it."""

    epochs: int | None = Field(
        None, ge=1, le=1000, description="Passes over the texts; by default 3, of few texts more, for 1,000 steps, but at most 10."
    )
    lr: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak learning rate; by default 2e-4 up to 512 wide, 6e-5 above; half as much again beyond 20 labels; 5e-4 and "
        "1.5e-4 for a SPEC of another width; labels alone as finetune; tinybert 3e-5; of a BiLSTM 1e-3.",
    )
    method: list[str] = Field(
        list(distill_losses.DEFAULT),
        min_length=1,
        max_length=16,
        description=f"Losses, as NAME or NAME:WEIGHT: {', '.join(distill_losses.METHODS)}.",
    )
    match: str | None = Field(
        None,
        max_length=4096,
        description="Layers matched: last, uniform, all (with the embeddings), or by loss: hidden:0-0,12-4;gram:12-4 (TEACHER-STUDENT); "
        "by default all for nmse and in tinybert, else last.",
    )
    temperature: float | None = Field(
        None, gt=0, le=100, description="Softens both distributions in the logits loss; by default 2, with tinybert 1."
    )
    hard_weight: float | None = Field(
        None, ge=0, le=1, description="Weight of the labels' loss; the rest is soft. By default 0.1; tinybert, cofi 0."
    )
    dropout: bool | None = Field(
        None, description="Drop some of the student's hidden states, as its config says; by default only with theseus and tinybert."
    )
    relation_heads: int | None = Field(None, ge=1, le=1024, description="Heads of method relations; by default the teacher's, or fewer.")
    dkd_beta: float | None = Field(None, ge=0, le=100, description="Weight of the other classes in method dkd; by default 8.")
    layer_epochs: int | None = Field(
        None, ge=1, le=1000, description="Epochs of the losses of layers alone; then --epochs of the others; by default none, tinybert 10."
    )
    layer_lr: float | None = Field(None, gt=0, le=1, description="Their peak learning rate; by default that of the others, tinybert 5e-5.")
    init: Literal["auto", "layers", "importance", "random"] = Field(
        "auto",
        description="How a student of a SPEC starts: the teacher's layers (layers), its most important dimensions, heads and neurons "
        "(importance), or random; auto: the first of the two that fits, lower layers or spread ones by a trial; of a BiLSTM the "
        "teacher's words.",
    )
    unlabeled: str | None = Field(None, description="Texts without labels to learn from as well: .txt, or a table with the task's columns.")
    augment: Augment = Field(0, description="Variants made of each text (spans, spans joined, words masked), which the teacher labels.")
    augment_model: AugmentModel = Field(None, description=AUGMENT_MODEL)

    @field_validator("method", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @classmethod
    def usual_epochs(cls, document: dict[str, Any]) -> int | None:
        """Return those of TinyBERT's second stage; else None: how many it is depends on the number of texts."""
        return DEFAULT_EPOCHS if _only_method(document) == "tinybert" else None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        own = distill_losses.METHOD_DEFAULTS.get(_only_method(document), {})
        filled = {**distill_losses.DEFAULTS, **own}
        return {**document, **{key: value for key, value in filled.items() if document.get(key) is None}}

    @model_validator(mode="after")
    def _go_together(self) -> DistillSettings:
        losses, layered = self.losses, self.layers_matched
        if "relations" not in losses and self.relation_heads:
            raise ValueError("relation_heads goes with method relations")
        if self.match is not None and not layered:
            raise ValueError("match goes with a method that compares layers, such as hidden")
        if "theseus" in losses and (
            self.hard_weight not in (distill_losses.DEFAULTS["hard_weight"], 1)
            or self.temperature != distill_losses.DEFAULTS["temperature"]
        ):
            raise ValueError("method theseus learns from labels alone: it takes no hard_weight and no temperature")
        if "dkd" not in losses and self.dkd_beta is not None:
            raise ValueError("dkd_beta goes with method dkd")
        if self.layer_epochs and not layered and "cofi" not in losses:
            raise ValueError("layer_epochs needs a method that matches layers, such as hidden")
        if self.budget and (self.layer_epochs or "theseus" in losses):
            raise ValueError(
                "a budget of time goes with one stage of training, whose length may change: not with layer_epochs (which tinybert has), "
                "nor with theseus"
            )
        if self.layer_lr and not self.layer_epochs:
            raise ValueError("layer_lr goes with layer_epochs")
        if (self.augment or self.unlabeled) and "theseus" in losses:
            raise ValueError("method theseus learns from labels alone: leave out augment and unlabeled, or take another method")
        if (self.augment or self.unlabeled) and not set(distill_losses.OUTPUTS) & set(losses):
            raise ValueError(
                "nothing would train the head, for with augment or unlabeled the labels do not count: add the method logits or dkd"
            )
        if not self.hard_weight and not {*distill_losses.OUTPUTS, "theseus"} & set(losses):
            raise ValueError("nothing would train the head: add the method logits or dkd, or raise hard_weight")
        check_augment(self.augment, self.augment_model)
        return self

    @property
    def losses(self) -> dict[str, float]:
        """The losses by name with their weights; `tinybert` as the losses that it stands for."""
        found = distill_losses.parse_methods(self.method)
        if "tinybert" in found:
            found = distill_losses.parse_methods(list(distill_losses.TINYBERT))
        return found

    @property
    def layers_matched(self) -> dict[str, str | distill_losses.Pairs]:
        """What each loss of layers matches: a word, or pairs of layers."""
        return distill_losses.parse_match(self.match, [name for name in self.losses if name in distill_losses.LAYERED])
