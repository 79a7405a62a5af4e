"""From a `TaskSpec` to checked examples: local files, the hub, or a builtin corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress import console, fs, hub
from compress.errors import DataError, did_you_mean
from compress.task import bbc
from compress.task.spec import SPLITS, TaskSpec

if TYPE_CHECKING:
    import pandas as pd

NO_LABELS = {"", "nan", "None", "<NA>", "-1"}  # how files write that a row has no label
HELD_OUT = 0.1  # of train, where a task has no validation split


@dataclass(frozen=True)
class Examples:
    """Texts (one or two each) and their labels, as positions in the task's label names."""

    texts: list[tuple[str, ...]]
    labels: np.ndarray  # (n,) int64

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples at `positions`, in that order."""
        return Examples([self.texts[i] for i in positions], self.labels[np.asarray(positions, dtype=int)])


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
        """The labels' names in the order of their numbers: the task's own, or those found in its first split."""
        if self.spec.labels:
            return self.spec.labels
        first = self.available[0]
        texts = {_label_text(value) for value in self._columns(first)[1]}
        found = sorted(texts - NO_LABELS, key=_natural_order)
        if not found:
            raise DataError(f"the {first} split has no labels in column '{self.spec.label}'")
        if len(found) < 2 and first == "train":
            raise DataError(
                f"the {first} split has only one label, {found[0]!r}: there is nothing to learn",
                f"is '{self.spec.label}' the right label column?",
            )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data and of how it is read: changes when a file's contents or the task's columns change."""
        if self.spec.builtin:
            data: Any = fs.digest_json(self._builtin)
        else:
            data = {split: [fs.digest_file(path) for path in paths] for split, paths in self._sources.items()}
        reading = self.spec.model_dump(include={"kind", "text", "label", "labels", "max_length", "metrics"})
        return fs.digest_json({"data": data, "reading": reading})

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
    def _builtin(self) -> dict[str, list[bbc.Row]]:
        return bbc.load()

    @cached_property
    def _sources(self) -> dict[str, list[Path]]:
        """Map each given split to its files (no files for a builtin corpus)."""
        spec = self.spec
        if spec.builtin:
            return {name: [] for name in SPLITS}
        if spec.hub is None:
            return {name: [_existing(path)] for name, path in spec.local_files().items()}
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
        counts = np.bincount(everything.labels, minlength=len(self.label_names))
        stratify = everything.labels if counts[counts > 0].min() > 1 and len(everything) * HELD_OUT >= len(counts) else None
        if len(everything) < 10:
            raise DataError("too few training rows to hold out a validation split", "give a validation file")
        kept, held = train_test_split(np.arange(len(everything)), test_size=HELD_OUT, random_state=0, stratify=stratify)
        console.info(f"no validation split: {len(held)} of {len(everything)} training rows are held out for it")
        return everything.take(np.sort(kept)), everything.take(np.sort(held))

    def _read(self, name: str) -> Examples:
        texts, values = self._columns(name)
        numbers = {label: number for number, label in enumerate(self.label_names)}
        # A column holds names or numbers, never a mix: where all are names, the digits of a name are no position.
        by_number = self.spec.labels is not None and not all(_label_text(value) in numbers for value in values)
        labels = [_label_number(value, numbers, by_number) for value in values]
        wrong = [value for value, number in zip(values, labels, strict=True) if number is None]
        if wrong:
            raise DataError(
                f"{len(wrong)} of {len(values)} labels of the {name} split are unusable, the first is {wrong[0]!r} "
                f"(known: {_shorten(self.label_names)})",
                "unlabelled rows cannot be used here; correct the label column or the task's 'labels'",
            )
        examples = Examples(texts, np.array(labels, dtype=np.int64))
        if name == "train" and len(set(labels)) < 2:
            raise DataError(f"every row of the train split has the label {self.label_names[labels[0] or 0]!r}: there is nothing to learn")
        return examples

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
                    f"{where} has no column '{column}'{did_you_mean(column, names)}; it has: {_shorten(names)}",
                    "name the columns with --text and --label",
                )
        for column in spec.text:
            missing = sum(frame[column].isna().tolist())
            if missing:
                raise DataError(f"{missing} of {len(frame)} rows of {where} have no text in column '{column}'")
        texts = list(zip(*(frame[column].astype(str) for column in spec.text), strict=True))
        return texts, frame[spec.label].tolist()


def overlap(first: Examples, second: Examples) -> int:
    """Count the examples of `second` whose texts stand in `first` too."""
    known = set(first.texts)
    return sum(texts in known for texts in second.texts)


def read_table(path: Path) -> pd.DataFrame:
    """Read Parquet, CSV, TSV or JSON lines by the file's ending (text columns of CSV stay text).

    Raises:
        DataError: another ending, or contents that do not fit it.
    """
    import pandas as pd

    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(path)
        if name.endswith((".csv", ".tsv")):
            separator = "\t" if name.endswith(".tsv") else ","
            frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            if name.endswith(".tsv"):
                _warn_of_quotes(path, frame)
            return frame
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return pd.read_json(path, lines=True, dtype=False, convert_dates=False)  # pyright: ignore[reportArgumentType]
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    except (ValueError, TypeError, OSError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    raise DataError(f"{path}: unknown kind of file", "use .parquet, .csv, .tsv or .jsonl")


def _warn_of_quotes(path: Path, frame: pd.DataFrame) -> None:
    """Warn where a TSV's quotes joined lines: some writers mean a quote as a character, and rows would be lost silently."""
    joined = int(frame.map(lambda cell: "\n" in str(cell)).any(axis=1).sum())
    if joined:
        console.warn(f"{joined} rows of {path} hold line breaks between quotes: if quotes are plain characters there, save it as .jsonl")


def _existing(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise DataError(f"there is no file {path}{did_you_mean(file.name, siblings)}")
    return file


def _label_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _label_number(value: Any, numbers: dict[str, int], by_number: bool) -> int | None:
    """Return a label's number, by its name or by the number itself; None where it has none."""
    text = _label_text(value)
    if not by_number:
        return numbers.get(text)
    return int(text) if text.isdecimal() and int(text) < len(numbers) else None


def _natural_order(label: str) -> tuple[bool, int, str]:
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)


def _shorten(names: list[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
