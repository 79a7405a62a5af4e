"""Find the data of a split that is given as a path: a file, a folder or pattern of shards, or a folder of `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from compress.core.errors import DataError, did_you_mean
from compress.data.sources import DatasetSource, FileSource, Source
from compress.data.tables import FORMATS, existing_file, file_format

PATTERN = "*?["
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def local_source(path: str, split: str) -> Source:
    """Return the source of a split.

    Args:
        path: of a file; of a folder with files of one kind, or that `datasets` wrote by `save_to_disk`; or a pattern such as
            `data/train-*.parquet`.
        split: a folder with files or data sets of several splits is read for this one.

    Raises:
        DataError: nothing there, or files of several kinds.
    """
    folder = Path(path)
    if folder.is_dir():
        return _saved(folder, split) or FileSource(_shards(folder, split))
    if any(mark in path for mark in PATTERN) and not folder.is_file():
        root = Path(folder.anchor) if folder.anchor else Path()
        matches = sorted(file for file in root.glob(str(folder.relative_to(root))) if file.is_file())
        if not matches:
            raise DataError(f"no file fits {path}")
        return FileSource(_of_one_kind(matches, path))
    return FileSource((existing_file(path),))


def _saved(folder: Path, split: str) -> DatasetSource | None:
    """Return the data set of a folder of `save_to_disk`, or None."""
    if not (folder / "dataset_dict.json").is_file() and not (folder / "state.json").is_file():
        return None
    from datasets import Dataset, DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:  # whatever Arrow and json raise at damaged files
        raise DataError(f"{folder} cannot be read as a data set of save_to_disk: {(str(error).splitlines() or ['damaged'])[0]}") from error
    if isinstance(saved, DatasetDict):
        if split not in saved:
            raise DataError(f"{folder} has no {split} split{did_you_mean(split, map(str, saved))}; it has: {', '.join(map(str, saved))}")
        return DatasetSource(saved[split], split)
    return DatasetSource(cast("Dataset", saved), split)


def _shards(folder: Path, split: str) -> tuple[Path, ...]:
    """Return the tables of a folder; if some are named after splits, those of this one."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith((".", "_")) and _is_table(file))
    if not files:
        raise DataError(f"{folder} has no table", f"a folder of shards holds files that end in {', '.join(FORMATS)}")
    splits = {name: [file for file in files if file.name.lower().startswith(marks)] for name, marks in SPLIT_NAMES.items()}
    if any(splits.values()):
        if not splits[split]:
            named = ", ".join(name for name, of_split in splits.items() if of_split)
            raise DataError(
                f"{folder} has files of other splits ({named}), and none of {split}", f"name files as {split}-*, or give a pattern"
            )
        files = splits[split]
    return _of_one_kind(files, str(folder))


def _is_table(file: Path) -> bool:
    try:
        return bool(file_format(file))
    except DataError:  # another ending
        return False


def _of_one_kind(files: list[Path], where: str) -> tuple[Path, ...]:
    kinds = sorted({file_format(file) for file in files})
    if len(kinds) > 1:
        raise DataError(f"{where} holds tables of several kinds: {', '.join(kinds)}", "give a pattern such as 'data/*.parquet'")
    return tuple(files)
