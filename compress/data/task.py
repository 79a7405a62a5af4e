"""From a `TaskSpec` to checked examples: local files, the hub, or a builtin corpus."""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.core import console, digests, hub
from compress.core.errors import DataError, did_you_mean
from compress.data import bbc_news
from compress.data import labels as label_readers
from compress.data.examples import Examples
from compress.data.labels import shorten
from compress.data.spec import SPLITS, TaskSpec
from compress.data.tables import existing_file, read_table

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.1  # of train, where a task has no validation split
MANY_LABELS = 200  # beyond these, labels that hardly repeat are no classes
FIXED_NAMES: dict[str, list[str]] = {"value": ["value"], "span": ["start", "end"]}


class Task:
    """A task with its data, read on first use.

    Raises (from any property that reads data):
        DataError: a file is missing, empty or unreadable, a column is not there, labels make no sense.
        ResourceError: offline with a cold cache, or a package with the data is missing.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec

    @property
    def available(self) -> list[str]:
        """The splits that can be loaded; validation is held out of train where it is not given."""
        given = set(self._sources)
        return [name for name in SPLITS if name in given or (name == "validation" and "train" in given)]

    @cached_property
    def label_names(self) -> list[str]:
        """The labels' names in the order of their numbers: the task's own, or those found in its first split.

        A regression has the one name `value`, a span the two names of its outputs.
        """
        if self.spec.target in FIXED_NAMES:
            return FIXED_NAMES[self.spec.target]
        if self.spec.labels:
            return self.spec.labels
        first = self.available[0]
        if recorded := self._recorded_labels(first):
            return recorded
        texts, raw = self._columns(first)
        split = {"labels": label_readers.label_lists, "tags": label_readers.tag_lists}.get(self.spec.target)
        found = label_readers.found_labels(split(raw) if split else raw)
        if not found:
            raise DataError(f"the {first} split has no labels in column '{self.spec.label}'")
        if len(found) < 2 and first == "train":
            raise DataError(
                f"the {first} split has only one label, {found[0]!r}: there is nothing to learn",
                f"is '{self.spec.label}' the right label column?",
            )
        if self.spec.target == "class" and any(
            isinstance(value, float) and math.isfinite(value) and not value.is_integer() for value in raw
        ):
            raise DataError(
                f"column '{self.spec.label}' of the {first} split holds numbers with decimals: these are no classes",
                "for numbers use --kind regression; or name another column with --label",
            )
        if self.spec.target == "class" and len(found) > MANY_LABELS and 2 * len(found) > len(texts):
            raise DataError(
                f"column '{self.spec.label}' has {len(found)} different labels in {len(texts)} rows: these are no classes",
                "for numbers use --kind regression; or name another column with --label",
            )
        return found

    @property
    def _labels_given(self) -> bool:
        """Whether numbers in the label column may stand for names."""
        return self.spec.labels is not None or bool(self._recorded_labels(self.available[0]))

    def _recorded_labels(self, split: str) -> list[str]:
        """Return the class names that a Parquet file of the hub's `datasets` library records for its label column."""
        paths = self._sources.get(split) or []
        if not paths or paths[0].suffix != ".parquet":
            return []
        import pyarrow.parquet

        try:
            metadata = pyarrow.parquet.read_schema(paths[0]).metadata or {}
            feature = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][self.spec.label]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        while isinstance(feature, (dict, list)):
            if isinstance(feature, dict) and feature.get("names"):
                return [str(name) for name in feature["names"]]
            feature = feature[0] if isinstance(feature, list) and feature else feature.get("feature") if isinstance(feature, dict) else None
        return []

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data and of how it is read: changes when a file's contents or the task's columns change."""
        if self.spec.builtin:
            data: Any = digests.digest_json(self._builtin)
        else:
            data = {split: [digests.digest_file(path) for path in paths] for split, paths in self._sources.items()}
        reading = self.spec.model_dump(exclude={"name", "description", "builtin", "hub", "train", "validation", "test"})
        return digests.digest_json({"data": data, "reading": reading})

    def split(self, name: str) -> Examples:
        """Return the examples of `train`, `validation` or `test`."""
        if name not in self.available:
            raise DataError(f"task {self.spec.name} has no {name} split (it has: {', '.join(self.available)})")
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def evaluation_split(self, wanted: str = "auto") -> str:
        """Resolve `auto` to test where there is one, else validation."""
        if wanted != "auto":
            return wanted
        return "test" if "test" in self.available else "validation"

    @cached_property
    def _loaded(self) -> dict[str, Examples]:
        return {}

    @cached_property
    def _builtin(self) -> dict[str, list[bbc_news.Row]]:
        return bbc_news.load()

    @cached_property
    def _sources(self) -> dict[str, list[Path]]:
        """Map each given split to its files (no files for a builtin corpus)."""
        spec = self.spec
        if spec.builtin:
            return {name: [] for name in SPLITS}
        if spec.hub is None:
            return {name: [existing_file(path)] for name, path in spec.local_files().items()}
        patterns = {name: pattern for name in SPLITS if (pattern := getattr(spec.hub, name))}
        folder = hub.snapshot(spec.hub.repo, "dataset", spec.hub.revision, list(patterns.values()))
        found = {name: sorted(folder.glob(pattern)) for name, pattern in patterns.items()}
        for name, paths in found.items():
            if not paths:
                raise DataError(f"{spec.hub.repo} has no file '{patterns[name]}' for the {name} split")
        return found

    def _load(self, name: str) -> Examples:
        if name == "validation" and name not in self._sources:
            return self._held_out[1]
        if name == "train" and "validation" not in self._sources:
            return self._held_out[0]
        return self._read(name)

    @cached_property
    def _held_out(self) -> tuple[Examples, Examples]:
        from sklearn.model_selection import train_test_split

        everything = self._read("train")
        if len(everything) < 10:
            raise DataError("too few training rows to hold out a validation split", "give a validation file")
        stratify = None
        if self.spec.target == "class":
            counts = np.bincount(everything.labels, minlength=len(self.label_names))
            stratify = everything.labels if counts[counts > 0].min() > 1 and len(everything) * HELD_OUT >= len(counts) else None
        kept, held = train_test_split(np.arange(len(everything)), test_size=HELD_OUT, random_state=0, stratify=stratify)
        console.once(f"no validation split: {len(held)} of {len(everything)} training rows are held out for it")
        return everything.take(np.sort(kept)), everything.take(np.sort(held))

    def _read(self, name: str) -> Examples:
        spec = self.spec
        texts, raw = self._columns(name)
        labels = label_readers.READERS[spec.target](raw, self.label_names, self._labels_given, f"the {name} split")
        if spec.target == "tags":
            label_readers.check_tokens(texts, labels, f"the {name} split")
        if spec.target == "span":
            label_readers.check_spans([context for _, context in texts], labels, spec.no_answer, f"the {name} split")
        if name == "train" and spec.target in ("class", "value") and len(np.unique(labels)) < 2:
            only = self.label_names[int(labels[0])] if spec.target == "class" else float(labels[0])
            raise DataError(f"every row of the train split has the label {only!r}: there is nothing to learn")
        return Examples(texts, labels)

    def _columns(self, name: str) -> tuple[list[tuple[str, ...]], list[Any]]:
        """Return the texts and the raw labels of a given split."""
        spec = self.spec
        if spec.builtin:
            rows = self._builtin[name]
            return [tuple(row[column] for column in spec.text) for row in rows], [row[spec.label] for row in rows]
        import pandas as pd

        where = ", ".join(str(path) for path in self._sources[name])
        frame = pd.concat([read_table(path) for path in self._sources[name]], ignore_index=True)
        if frame.empty:
            raise DataError(f"{where} has no rows")
        for column in [*spec.text, spec.label]:
            if column not in frame.columns:
                names = [str(known) for known in frame.columns]
                raise DataError(
                    f"{where} has no column '{column}'{did_you_mean(column, names)}; it has: {shorten(names)}",
                    "name the columns with --text and --label",
                )
        for column in spec.text:
            missing = sum(frame[column].isna().tolist())
            if missing:
                raise DataError(f"{missing} of {len(frame)} rows of {where} have no text in column '{column}'")
        if spec.target == "tags":
            texts = [label_readers.words_of(value) for value in frame[spec.text[0]].tolist()]
            if spec.segment:
                return label_readers.segmented(texts)
        else:
            self._refuse_lists(frame, where)
            texts = list(zip(*(frame[column].astype(str) for column in spec.text), strict=True))
        return texts, frame[spec.label].tolist()

    def _refuse_lists(self, frame: pd.DataFrame, where: str) -> None:
        """Tell apart a column of texts and one of token lists: the latter belongs to another kind of task."""
        label = frame[self.spec.label].iloc[0]
        if self.spec.target in ("class", "value") and isinstance(label, (list, tuple, np.ndarray, dict)):
            raise DataError(
                f"column '{self.spec.label}' of {where} holds lists, and {self.spec.kind} needs one answer a row",
                "for several labels add --multi-label",
            )
        for column in self.spec.text:
            if isinstance(frame[column].iloc[0], (list, tuple, np.ndarray, dict)):
                raise DataError(
                    f"column '{column}' of {where} holds lists, and {self.spec.kind} needs text",
                    "for tokens use --kind token-classification",
                )
