"""A task with its data: from a `TaskSpec` to checked examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from compress.core import console, digests, hub
from compress.core.errors import DataError
from compress.data import bbc_news
from compress.data.answers import place_answers, read_spans
from compress.data.candidate_source import CandidateSource, RunFile
from compress.data.columns import IN_MEMORY_BYTES, read_columns
from compress.data.dataset_objects import SPLITS, dataset_splits
from compress.data.examples import Examples, overlap
from compress.data.input_spec import Target
from compress.data.labels import discover_labels, read_classes, read_label_sets, read_values
from compress.data.local_sources import local_source
from compress.data.mentions import TOKEN_NAMES, mention_columns, read_mentions
from compress.data.retrieval import Retrieval
from compress.data.sequence_labels import check_tags, read_tags
from compress.data.sources import DatasetSource, FileSource, RowSource, Source
from compress.data.spec import HubSource, TaskSpec
from compress.data.splits import held_back_positions, held_out_positions

FIXED_NAMES: dict[Target, list[str]] = {"value": ["value"], "span": ["start", "end"], "vector": [], "mentions": TOKEN_NAMES}
READERS = {
    "class": read_classes, "labels": read_label_sets, "value": read_values, "tags": read_tags, "span": read_spans, "vector": read_values,
}  # fmt: skip
LOCATION_FIELDS = {  # not what the data means
    "name", "description", "builtin", "hub", "data", "beir", "run", "retriever", "train", "validation", "test",
}  # fmt: skip


class Task:
    """A task with its data, read on first use.

    Args:
        spec: of the task.
        in_memory: splits that take more bytes are streamed from their files.
        find_candidates: from a task with a retriever to the candidates that it finds; see `compress.inference.retriever.open_task`.

    Raises (from any property that reads data):
        DataError: a file is missing, empty or unreadable, a column does not exist, labels are unusable.
        ResourceError: offline with a cold cache, or a package with the data is missing.
    """

    def __init__(
        self, spec: TaskSpec, in_memory: int = IN_MEMORY_BYTES, find_candidates: Callable[[TaskSpec], CandidateSource] | None = None
    ) -> None:
        self.spec, self.in_memory, self._find_candidates = spec, in_memory, find_candidates
        self._loaded: dict[str, Examples] = {}

    @property
    def available(self) -> list[str]:
        """The splits that can be loaded; without a validation split, one is held out of train. A corpus is a train split."""
        if self.retrieval is not None:
            splits = [split for split in self.retrieval.available if split != "train"]
            trains = self.spec.target == "vector" or "train" in self.retrieval.available or self.retrieval.has_unjudged
            return ["train", *splits] if trains else splits
        given = [name for name in SPLITS if name in self._sources or (name == "validation" and "train" in self._sources)]
        return [*given, "test"] if self.spec.hold_back and "validation" in given and "test" not in given else given

    @cached_property
    def retrieval(self) -> Retrieval | None:
        """Corpus, queries and judgements of a task in BEIR's layout; None for other tasks."""
        shares = self.spec.shares
        parts = (shares[0], shares[1], shares[2]) if shares else None
        return Retrieval(self.spec.beir, parts, self.in_memory, self._candidates(), self.spec.candidates) if self.spec.beir else None

    def _candidates(self) -> CandidateSource | None:
        if self.spec.run:
            return RunFile(self.spec.run)
        if self.spec.retriever is None:
            return None
        if self._find_candidates is None:
            raise ValueError("a task with a retriever is opened by compress.inference.retriever.open_task")
        return self._find_candidates(self.spec)

    @cached_property
    def label_names(self) -> list[str]:
        """The label names in the order of their numbers: the task's own, those that its files record, or those that occur.

        A regression has the one name `value`, a span the two names of its outputs, a vector none.
        """
        if self.spec.target in FIXED_NAMES:
            return FIXED_NAMES[self.spec.target]
        if self.spec.labels:
            return self.spec.labels
        first = self.available[0]
        if recorded := self._sources[first].class_names(self.spec.label):
            return recorded
        _, cells = read_columns(self._sources[first], self.spec, self.in_memory)
        return discover_labels(cells, self.spec.target, self._label_column(first), first == "train", self.spec.separator)

    @cached_property
    def class_names(self) -> list[str]:
        """The label names, followed by those of classes that only models know; `class_number` adds them."""
        return list(self.label_names)

    def class_number(self, name: str, number: int) -> int:
        """Return the number of a model's class, and keep its name.

        Args:
            name: of the class in the model.
            number: of the task's class that it is; negative if the task has no such class, which is then added.
        """
        names = self.class_names
        if number < 0:
            names += [] if name in names else [name]
            return names.index(name)
        if names[number].removeprefix("LABEL_").isdecimal() and name not in names and not name.startswith("LABEL_"):
            names[number] = name
        return number

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data and of how it is read: it changes with a file's contents and with the task's columns."""
        if self.retrieval is not None:
            reading = self.spec.model_dump(exclude=LOCATION_FIELDS)
            return digests.digest_json({"data": self.retrieval.fingerprint, "reading": reading})
        data: object = {split: source.digest(self._columns(source)) for split, source in self._sources.items()}
        if self.spec.builtin:
            data = digests.digest_json(data)
        return digests.digest_json({"data": data, "reading": self.spec.model_dump(exclude=LOCATION_FIELDS)})

    def split(self, name: str) -> Examples:
        """Return the examples of `train`, `validation` or `test`.

        Raises:
            DataError: the task has no such split.
        """
        if name not in self.available:
            raise DataError(f"task {self.spec.name} has no {name} split (it has: {', '.join(self.available)})")
        if name not in self._loaded:
            self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> None:
        """Load a split, and those that it is divided from."""
        if self.retrieval is not None:
            self._loaded[name] = self._training_inputs(self.retrieval) if name == "train" else self.retrieval.examples(name)
        elif name == "train" and "validation" in self._sources:
            self._loaded["train"] = self._read("train")
        elif name == "test" and "test" in self._sources:
            self._loaded["test"] = self._read("test")
        else:
            if "validation" in self._sources:
                validation = self._read("validation")
            else:
                self._loaded["train"], validation = self._hold_out()
            if self.spec.hold_back and "test" not in self._sources:
                kept, held_back = held_back_positions(len(validation), self.spec.hold_back)
                validation, self._loaded["test"] = validation.take(kept), validation.take(held_back)
            self._loaded["validation"] = validation

    def _training_inputs(self, retrieval: Retrieval) -> Examples:
        """Return the corpus, without labels, for an embedder; training queries with their candidates and grades for a reranker."""
        if self.spec.target == "value":
            return retrieval.training_pairs()
        texts = retrieval.corpus.texts
        return Examples(texts, np.zeros(len(texts), dtype=np.float32))

    def model_inputs(self, name: str) -> Examples:
        """Return what a model is given for a split: its examples, or for a reranker the queries with their candidates."""
        if self.retrieval is None or self.spec.target != "value" or name == "train":
            return self.split(name)
        return self.retrieval.candidate_pairs(name)

    def evaluation_split(self, name: str = "auto") -> str:
        """Return the split to evaluate on: `auto` means test if the task has one, else validation."""
        if name != "auto":
            return name
        return "test" if "test" in self.available else "validation"

    def warn_of_overlap(self, names: Sequence[str] = ("validation", "test")) -> None:
        """Warn if examples of these splits are also training examples. Judged queries are split by query: none is."""
        if self.retrieval is not None:
            return
        for name in names:
            if name != "train" and {"train", name} <= set(self.available) and (shared := overlap(self.split("train"), self.split(name))):
                console.warn_once(
                    f"{shared} of {len(self.split(name))} {name} examples are also training examples: scores on them are too optimistic"
                )

    @cached_property
    def _sources(self) -> dict[str, Source]:
        """The source of each split that the task gives."""
        spec = self.spec
        if spec.builtin:
            return {split: RowSource(rows, f"{spec.builtin}, {split}") for split, rows in bbc_news.read_splits().items()}
        if spec.data is not None:
            return {split: DatasetSource(dataset, split) for split, dataset in dataset_splits(spec.data).items()}
        if spec.hub is not None:
            return _hub_sources(spec.hub)
        return {split: local_source(path, split) for split, path in spec.local_files().items()}

    def _columns(self, source: Source) -> list[str]:
        """Return the columns of a source that the task reads."""
        return mention_columns(source) if self.spec.target == "mentions" else [*self.spec.text, self.spec.label]

    def _label_column(self, split: str) -> str:
        """Return what messages call the label column of a split."""
        return f"{self._sources[split].where}, column '{self.spec.label}'"

    def _hold_out(self) -> tuple[Examples, Examples]:
        everything = self._read("train")
        classes = everything.labels if self.spec.target == "class" else None
        kept, held_out = held_out_positions(len(everything), classes, len(self.label_names))
        console.once(f"no validation split: {len(held_out)} of {len(everything)} training rows are held out for it")
        return everything.take(kept), everything.take(held_out)

    def _read(self, name: str) -> Examples:
        spec, where = self.spec, self._label_column(name)
        if spec.target == "mentions":
            return read_mentions(self._sources[name])
        texts, cells = read_columns(self._sources[name], spec, self.in_memory)
        numbers_allowed = spec.labels is not None or bool(self._sources[self.available[0]].class_names(spec.label))
        if spec.compares_vectors:
            return Examples(texts, np.zeros(len(texts), dtype=np.float32))
        separator = {"separator": spec.separator} if spec.target == "labels" else {}
        labels = READERS[spec.target](cells, self.label_names, numbers_allowed, where, **separator)
        if spec.target == "tags":
            check_tags(texts, labels, where)
        if spec.target == "span":
            kept, labels = place_answers([context for _, context in texts], labels, spec.no_answer, where)
            texts = [texts[row] for row in kept.tolist()]
        if name == "train" and spec.target in ("class", "value") and len(np.unique(labels)) < 2:
            first = np.asarray(labels)[0]
            only = self.label_names[int(first)] if spec.target == "class" else float(first)
            raise DataError(f"every row of the train split has the label {only!r}: there is nothing to learn")
        return Examples(texts, labels)


def _hub_sources(repository: HubSource) -> dict[str, Source]:
    """Download the files of a dataset repository (or find them in the hub client's cache)."""
    patterns = {split: pattern for split in SPLITS if (pattern := getattr(repository, split))}
    folder = hub.snapshot(repository.repo, "dataset", repository.revision, list(patterns.values()))
    sources: dict[str, Source] = {}
    for split, pattern in patterns.items():
        paths = tuple(sorted(folder.glob(pattern)))
        if not paths:
            raise DataError(f"{repository.repo} has no file '{pattern}' for the {split} split")
        sources[split] = FileSource(paths)
    return sources
