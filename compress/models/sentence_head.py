"""What an embedder computes behind its encoder: pooling, dense layers, normalisation. No torch in this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from compress.core.errors import ModelError, UsageError
from compress.core.files import Document
from compress.data.input_spec import POOLINGS, Pooling
from compress.models.types import Config

EMBEDDING_KEY = "sentence_embedding"  # of a config in memory; in a folder the head has files of its own
DENSE_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")  # classes of torch.nn
NORMALIZE = "normalize"


@dataclass(frozen=True)
class DenseStep:
    """A linear and its activation, by the name of its class in `torch.nn`."""

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Identity"


Step = DenseStep | Literal["normalize"]


@dataclass(frozen=True)
class SentenceHead:
    """The head of an embedder.

    Attributes:
        pooling: of the token vectors; several are concatenated.
        steps: what follows, in its order.
        max_length: longest input in tokens; None: as the encoder allows.
        similarity: the function that compares two vectors, as sentence-transformers names it; None: not recorded.
        prompts: texts that are put before an input, by name.
        default_prompt: the name of the one that every input gets.
    """

    pooling: tuple[Pooling, ...]
    steps: tuple[Step, ...] = ()
    max_length: int | None = None
    similarity: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    def size(self, hidden: int) -> int:
        """Return the number of dimensions of a vector, for an encoder of this width."""
        last = next((step for step in reversed(self.steps) if isinstance(step, DenseStep)), None)
        return last.out_features if last else hidden * len(self.pooling)

    @property
    def dense_steps(self) -> list[int]:
        """The places of the dense layers among the steps."""
        return [number for number, step in enumerate(self.steps) if isinstance(step, DenseStep)]

    @property
    def first_token_only(self) -> bool:
        """Whether the vector depends on the first token of the last layer alone."""
        return self.pooling == ("cls",)

    @property
    def normalized(self) -> bool:
        """Whether vectors have length one."""
        return self.steps[-1:] == (NORMALIZE,)

    @property
    def prompt(self) -> str:
        """The text before every input; empty without one."""
        return self.prompts.get(self.default_prompt, "") if self.default_prompt else ""

    def prompt_for(self, *names: str) -> str:
        """Return the first prompt of these names; the prompt of every input if there is none."""
        return next((self.prompts[name] for name in names if name in self.prompts), self.prompt)

    @property
    def compares_by_cosine(self) -> bool:
        """Whether the length of vectors does not matter when they are compared."""
        return self.similarity != "dot"

    def check_similarity(self) -> None:
        """Check that search can compare the vectors; the nearest ones of length one have the largest cosine.

        Raises:
            ModelError: it cannot.
        """
        if self.similarity not in (None, "cosine", "dot") and not (self.similarity == "euclidean" and self.normalized):
            raise ModelError(
                f"config_sentence_transformers.json compares vectors by {self.similarity!r}, which search does not compute",
                "set its similarity_fn_name to cosine or dot",
            )

    def as_json(self) -> Document:
        """Return the head as a JSON document, as configs in memory hold it."""
        return {**asdict(self), "steps": [asdict(step) if isinstance(step, DenseStep) else step for step in self.steps]}

    @classmethod
    def from_json(cls, document: Document) -> SentenceHead:
        """Return the head of a document from `as_json`."""
        steps = tuple(DenseStep(**step) if isinstance(step, dict) else step for step in document["steps"])
        return cls(**{**document, "pooling": tuple(document["pooling"]), "steps": steps})


def head_entry(found: SentenceHead | ModelError) -> Document:
    """Return the entry of a config in memory for what was found in its folder: a head, or why there is none that compress computes."""
    return found.as_json() if isinstance(found, SentenceHead) else {"unsupported": found.message, "hint": found.hint}


def sentence_head(config: Config) -> SentenceHead | None:
    """Return the head that `read_config` found next to a `config.json`; None if its folder is no embedder's.

    Raises:
        ModelError: the folder describes an embedder that compress does not compute.
    """
    entry = config.get(EMBEDDING_KEY)
    if entry is None:
        return None
    if "unsupported" in entry:
        raise ModelError(entry["unsupported"], entry["hint"])
    return SentenceHead.from_json(entry)


def is_embedder(config: Config) -> bool:
    """Return whether a config was read from an embedder's folder, supported or not."""
    return config.get(EMBEDDING_KEY) is not None


def head_with_pooling(config: Config, pooling: str | None, where: str) -> SentenceHead:
    """Return the head of a folder, or a new one that only pools.

    Args:
        config: from `read_config`.
        pooling: of an encoder whose folder names none.
        where: the folder, for messages.

    Raises:
        ModelError: neither the folder nor `pooling` names one, or the folder is not supported.
        UsageError: the folder names another one.
    """
    head = sentence_head(config)
    if head is None and pooling is None:
        raise ModelError(
            f"{where} is an encoder whose folder does not name its pooling (modules.json), so its vectors are not defined",
            f"say how its token vectors become one with --pooling ({', '.join(POOLINGS)}), as its model card says",
        )
    if head is None:
        return SentenceHead((pooling,))  # pyright: ignore[reportArgumentType] (checked by its setting)
    if pooling is not None and head.pooling != (pooling,):
        raise UsageError(f"{where} says that its pooling is {'+'.join(head.pooling)}, and --pooling says {pooling}", "leave --pooling out")
    return head


def head_for_width(head: SentenceHead, hidden: int, size: int) -> SentenceHead:
    """Return the head for an encoder of another width whose vectors have `size` dimensions: with a first dense layer if it needs one."""
    pooled = hidden * len(head.pooling)
    first = next((step for step in head.steps if isinstance(step, DenseStep)), None)
    expected = first.in_features if first else size
    return head if pooled == expected else replace(head, steps=(DenseStep(pooled, expected), *head.steps))
