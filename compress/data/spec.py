"""The specification of a task: its data, its text and label columns, the maximum input length, and its metrics.

A preset, a YAML file and the options of the command line all become a `TaskSpec`. This module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from compress.data.dataset_objects import dataset_splits
from compress.data.input_spec import DOCUMENT_PROMPTS, InputSpec, Pooling, Target
from compress.data.literals import HALF_A_CHARACTER

Kind = Literal[
    "text-classification", "regression", "token-classification", "question-answering", "sentence-embedding", "text-ranking", "coreference",
]  # fmt: skip
MetricName = Literal[
    "accuracy", "f1", "macro_f1", "micro_f1", "matthews", "pearson", "spearman", "entity_f1", "word_f1", "exact_match", "squad_f1",
    "ndcg@10", "mrr@10", "recall@100", "map", "cosine", "gap_f1", "gap_f1_masculine", "gap_f1_feminine", "gap_bias",
]  # fmt: skip
# The metrics that each target allows.
METRICS_OF: dict[Target, tuple[str, ...]] = {
    "class": ("accuracy", "f1", "macro_f1", "matthews"),
    "labels": ("micro_f1", "macro_f1", "accuracy"),
    "value": ("spearman", "pearson"),
    "tags": ("accuracy", "entity_f1", "word_f1", "macro_f1"),
    "span": ("squad_f1", "exact_match"),
    "vector": ("cosine", "spearman", "pearson", "ndcg@10", "mrr@10", "recall@100", "map"),
    "mentions": ("gap_f1", "gap_f1_masculine", "gap_f1_feminine", "gap_bias"),
}
DEFAULT_METRICS: dict[Target, list[str]] = {
    "class": ["accuracy"],
    "labels": ["micro_f1", "macro_f1"],
    "value": ["spearman", "pearson"],
    "tags": ["accuracy"],
    "span": ["squad_f1", "exact_match"],
    "vector": ["cosine"],
    "mentions": ["gap_f1", "gap_f1_masculine", "gap_f1_feminine", "gap_bias"],
}
PAIR_METRICS = ["spearman", "pearson"]  # of the cosines of an embedder's scored pairs
RANKING_METRICS = ["ndcg@10", "mrr@10", "recall@100", "map"]  # of the documents that it finds
MENTION_COLUMN, MENTION_LABEL, MENTION_LENGTH = "text", "a_coref", 256  # of coreference, whose columns are those of GAP
MAX_CANDIDATES = 100  # of a query, that a reranker ranks
EMBEDDING_LENGTH = 512  # tokens; an embedder's folder may say less
SEGMENT_TAGS = ("B", "M", "E", "S")  # first, middle, last character of a word, or a word of one
TEXT_COLUMNS: dict[Kind, tuple[int, int]] = {  # fewest and most
    "text-classification": (1, 2),
    "regression": (1, 2),
    "token-classification": (1, 1),
    "question-answering": (2, 2),
    "sentence-embedding": (1, 2),
    "text-ranking": (2, 2),
    "coreference": (1, 1),
}
BEIR_COLUMNS: dict[Kind, list[str]] = {"sentence-embedding": ["text"], "text-ranking": ["query", "text"]}  # in its layout


class HubSource(BaseModel):
    """Parquet (or CSV, TSV, JSON lines) files of a dataset repository: one pattern per split."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name of the dataset repository")
    revision: str | None = Field(None, description="branch, tag or commit")
    train: str
    validation: str | None = None
    test: str | None = None


class TaskSpec(BaseModel):
    """A resolved task with exactly one source of data: `builtin`, `hub`, `data`, `beir`, or local files."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field("custom", pattern=r"^[\w.-]{1,64}$")
    kind: Kind = "text-classification"
    multi_label: bool = Field(False, description="text-classification: an example may have any number of labels")
    text: list[str] = Field(
        min_length=1,
        max_length=2,
        description="one or two text columns; the column of tokens; question and context columns; query and passage columns",
    )
    label: str = Field("label", description="the column of the label, number, tags or answers")
    separator: str = Field("|", min_length=1, max_length=8, description="multi_label: between the labels of a row that are one text")
    labels: list[str] | None = Field(None, min_length=2, description="label names in the order of their numbers")
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    stride: Annotated[int, Field(ge=0, le=4096)] = Field(
        32, description="tokens that two windows of an input longer than max_length share (tags and spans)"
    )
    max_answer: Annotated[int, Field(ge=1, le=1024)] = Field(30, description="question-answering: the longest answer in tokens")
    pooling: Pooling | None = Field(
        None, description="sentence-embedding: how an encoder whose folder does not say so makes one vector of its tokens' vectors"
    )
    segment: bool = Field(
        False, description="token-classification: the tokens are words; learn to find them in their characters, as tags B, M, E, S"
    )
    no_answer: bool = Field(False, description="question-answering: a question may have no answer in its context (SQuAD 2.0)")
    null_threshold: float = Field(
        0.0, description="question-answering: predict no answer if its score exceeds the best span's by more than this"
    )
    metrics: list[MetricName] = Field([], description="the first one is the main metric")
    builtin: Literal["bbc-news"] | None = None
    hub: HubSource | None = None
    beir: str | None = Field(
        None,
        description="sentence-embedding, text-ranking: a folder or dataset repository with corpus, queries and judgements in BEIR's layout",
    )
    run: str | None = Field(None, description="text-ranking with beir: the candidates of each query, a run file in TREC's format")
    retriever: str | None = Field(None, description="text-ranking with beir: an embedder that finds the candidates, instead of run")
    candidates: int = Field(MAX_CANDIDATES, ge=2, le=MAX_CANDIDATES, description="text-ranking with beir: of each query, those that count")
    shares: list[Annotated[float, Field(ge=0, le=1)]] | None = Field(
        None,
        min_length=3,
        max_length=3,
        description="beir with one file of judgements: the shares of its queries in train, validation and test",
    )
    train: str | None = Field(None, description="local file: Parquet, CSV, TSV or JSON lines")
    validation: str | None = None
    test: str | None = None
    hold_back: float | None = Field(
        None, gt=0, lt=1, description="share of the validation rows that become the test split of a task without one; a fixed random choice"
    )
    data: dict[str, object] | None = Field(None, description="`datasets.Dataset` objects by split (Python API only)")
    description: str = ""

    @field_validator("data", mode="before")
    @classmethod
    def _splits(cls, data: object) -> Mapping[str, object] | None:
        return None if data is None else dataset_splits(data)

    @field_serializer("data")
    def _described(self, data: Mapping[str, Sized] | None) -> dict[str, str] | None:
        """Write what the objects were: they cannot be written as JSON or YAML."""
        return None if data is None else {split: f"datasets.Dataset of {len(dataset)} rows" for split, dataset in data.items()}

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, document: object) -> object:
        """Fill in the defaults that depend on the kind: metrics, the label column and the longest input."""
        if not isinstance(document, dict):
            return document
        filled = dict(document)
        if isinstance(beir := filled.get("beir"), str):
            filled.setdefault("name", name_of_data(beir))
        if filled.get("kind") == "question-answering":
            filled.setdefault("label", "answers")
        if filled.get("kind") == "sentence-embedding":
            filled.setdefault("max_length", EMBEDDING_LENGTH)
            if filled.get("beir"):
                filled.setdefault("text", BEIR_COLUMNS["sentence-embedding"])
            columns = filled.get("text")
            if isinstance(columns, list) and len(columns) == 1:
                filled.setdefault("label", columns[0])  # texts alone have no labels
            if not filled.get("metrics") and isinstance(columns, list):
                filled["metrics"] = RANKING_METRICS if filled.get("beir") else PAIR_METRICS if len(columns) == 2 else ["cosine"]
        if filled.get("kind") == "text-ranking" and filled.get("beir"):
            filled.setdefault("max_length", EMBEDDING_LENGTH)
            filled.setdefault("text", BEIR_COLUMNS["text-ranking"])
            if not filled.get("metrics"):
                filled["metrics"] = RANKING_METRICS
        if filled.get("kind") == "coreference":
            filled.setdefault("max_length", MENTION_LENGTH)
            filled.setdefault("text", [MENTION_COLUMN])
            filled.setdefault("label", MENTION_LABEL)
        if filled.get("segment"):
            filled.setdefault("labels", list(SEGMENT_TAGS))
            filled.setdefault("label", next(iter(text if isinstance(text := filled.get("text"), list) and text else ["tokens"])))
        if not filled.get("metrics"):
            target = target_of_kind(filled.get("kind", "text-classification"), bool(filled.get("multi_label")))
            filled["metrics"] = DEFAULT_METRICS.get(target, ["accuracy"])  # pyright: ignore[reportArgumentType]
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpec:
        local = any(self.local_files().values())
        if sum([self.builtin is not None, self.hub is not None, self.data is not None, self.beir is not None, local]) != 1:
            raise ValueError("give the data as exactly one of: files (train, validation, test), hub, builtin, data, beir")
        if (self.beir is not None and self.kind not in ("sentence-embedding", "text-ranking")) or (self.shares and self.beir is None):
            raise ValueError("beir goes with sentence-embedding and text-ranking, and shares with beir")
        if self.beir is not None and (self.text != BEIR_COLUMNS[self.kind] or self.label not in ("label", "text") or self.hold_back):
            raise ValueError("beir has its own columns and splits: leave text, label and hold_back out")
        if self.run and self.retriever:
            raise ValueError("candidates come from a run or from a retriever, not from both")
        if bool(self.run or self.retriever) != self.ranks_candidates:
            raise ValueError(
                "text-ranking with beir needs the candidates of the queries, and no other task takes them: "
                "give run (a TREC run file; --run FILE) or retriever (an embedder; --retriever MODEL)"
            )
        if self.labels and len(set(self.labels)) < len(self.labels):
            raise ValueError("a label occurs twice in 'labels'")
        if self.labels and any(HALF_A_CHARACTER.search(label) for label in self.labels):
            raise ValueError("a label in 'labels' has half of a surrogate pair: it is no Unicode text")
        if self.multi_label and self.kind != "text-classification":
            raise ValueError(f"multi_label goes with text-classification, not {self.kind}")
        if self.pooling and self.kind != "sentence-embedding":
            raise ValueError(f"pooling goes with sentence-embedding, not {self.kind}")
        fewest, most = TEXT_COLUMNS[self.kind]
        if not fewest <= len(self.text) <= most:
            raise ValueError(f"{self.kind} takes {fewest if fewest == most else '1 or 2'} text column(s), not {len(self.text)}")
        if self.kind == "coreference" and (self.text, self.label) != ([MENTION_COLUMN], MENTION_LABEL):
            raise ValueError("coreference reads the columns of GAP (Text, Pronoun, Pronoun-offset, A, …): leave text and label out")
        if self.segment and (self.target != "tags" or self.labels != list(SEGMENT_TAGS)):
            raise ValueError("segment goes with token-classification, and its labels are B, M, E, S")
        if self.candidates != MAX_CANDIDATES and not self.ranks_candidates:
            raise ValueError("candidates goes with text-ranking and beir")
        known = RANKING_METRICS if self.ranks_candidates else METRICS_OF[self.target]
        wrong = [name for name in self.metrics if name not in known]
        if wrong:
            raise ValueError(f"'{wrong[0]}' does not measure {self.described_kind} (known: {', '.join(known)})")
        if self.target == "vector":
            self._check_vector_metrics()
        return self

    def _check_vector_metrics(self) -> None:
        """Check that the metrics are those of the data: judgements, scored pairs, or texts alone."""
        fitting = RANKING_METRICS if self.beir else ["cosine"] if self.compares_vectors else PAIR_METRICS
        wrong = [name for name in self.metrics if name not in fitting]
        if wrong:
            data = "judgements" if self.beir else "texts alone" if self.compares_vectors else "pairs of texts with a score"
            raise ValueError(f"'{wrong[0]}' does not measure {data}; these do: {', '.join(fitting)}")

    @property
    def target(self) -> Target:
        """What is predicted: one class, any labels, a value, a tag per token, a span of the context, a vector, or one of two mentions."""
        return target_of_kind(self.kind, self.multi_label)

    @property
    def compares_vectors(self) -> bool:
        """Whether the texts have no judgements, so that vectors are compared with those of a reference model."""
        return self.target == "vector" and len(self.text) == 1 and self.beir is None

    @property
    def ranks_candidates(self) -> bool:
        """Whether a reranker orders the candidates of judged queries."""
        return self.kind == "text-ranking" and self.beir is not None

    @property
    def input_spec(self) -> InputSpec:
        """How inputs are cut and outputs decoded."""
        prompts = (DOCUMENT_PROMPTS,) if self.beir and self.target == "vector" else ()  # the corpus is the training split
        lengths = (self.max_length, self.stride, self.max_answer)
        return InputSpec(self.target, *lengths, self.no_answer, self.null_threshold, prompts=prompts)

    @property
    def described_kind(self) -> str:
        """The kind in words."""
        return f"multi-label {self.kind}" if self.multi_label else self.kind

    @property
    def main_metric(self) -> str:
        """The metric that gates, early stopping and plots use."""
        return self.metrics[0]

    def local_files(self) -> dict[str, str]:
        """Map each split that is a local file to its path."""
        files = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: path for split, path in files.items() if path}

    def with_files(self, files: dict[str, str]) -> TaskSpec:
        """Return this task with local files instead of its data; the columns stay."""
        absolute = {split: str(Path(path).absolute()) for split, path in files.items()}
        cleared = dict.fromkeys(("builtin", "hub", "data", "beir", "run", "retriever", "shares", "train", "validation", "test"))
        return TaskSpec.model_validate(self.model_dump(exclude={"candidates"}) | cleared | absolute)


def name_of_data(reference: str) -> str:
    """Return a name for the data of a folder or a repository, `owner/name@revision`: the last part of its path.

    >>> name_of_data("data/cranfield/"), name_of_data("BeIR/scifact@main"), name_of_data("..")
    ('cranfield', 'scifact', 'custom')
    """
    last = reference.rstrip("/").rsplit("/", 1)[-1].split("@", 1)[0]
    name = re.sub(r"[^\w.-]+", "-", last)[:64]
    return name if name.strip(".-") else "custom"


def target_of_kind(kind: object, multi_label: bool = False) -> Target:
    """Return what a kind of task predicts."""
    if kind == "text-classification" and multi_label:
        return "labels"
    if not isinstance(kind, str):
        return "class"  # its field will be refused
    targets: dict[str, Target] = {
        "regression": "value",
        "text-ranking": "value",
        "token-classification": "tags",
        "question-answering": "span",
        "sentence-embedding": "vector",
        "coreference": "mentions",
    }
    return targets.get(kind, "class")
