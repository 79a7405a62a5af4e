"""Read Parquet, CSV, TSV and JSON lines files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress.core import console
from compress.core.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


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


def existing_file(path: str) -> Path:
    """Return the path of a file that is there.

    Raises:
        DataError: there is none, with the nearest name beside it.
    """
    file = Path(path)
    if not file.is_file():
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise DataError(f"there is no file {path}{did_you_mean(file.name, siblings)}")
    return file
