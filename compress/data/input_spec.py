"""How a model's inputs are cut and its outputs are decoded: the part of a task that is saved with a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from compress.results.values import InputSpecDocument

Target = Literal["class", "labels", "value", "tags", "span", "vector", "mentions"]
TOKEN_LABELS: tuple[Target, ...] = ("tags", "mentions")  # a class for each labelled token; other tokens are ignored
Activation = Literal["none", "sigmoid"]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"]  # of an embedder's token vectors
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
PromptNames = tuple[str, ...]  # the first that an embedder's folder has is meant
QUERY_PROMPTS: PromptNames = ("query",)
DOCUMENT_PROMPTS: PromptNames = ("document", "passage", "corpus")  # as sentence-transformers looks them up


@dataclass(frozen=True)
class InputSpec:
    """What is predicted, and the lengths that tokenization and decoding need; see the fields of `TaskSpec` of the same names."""

    target: Target = "class"
    max_length: int = 128
    stride: int = 32
    max_answer: int = 30
    no_answer: bool = False
    null_threshold: float = 0.0
    activation: Activation = "none"  # from the logit to the value; config.json records it
    prompts: tuple[PromptNames, ...] = ()  # of an embedder's first (and second) text; without names its default prompt

    def as_json(self) -> InputSpecDocument:
        """Return the fields as a JSON document."""
        return {
            "target": self.target,
            "max_length": self.max_length,
            "stride": self.stride,
            "max_answer": self.max_answer,
            "no_answer": self.no_answer,
            "null_threshold": self.null_threshold,
        }
