"""Read CoNLL files: a token per line with its tags, columns separated by blanks, an empty line after each sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.core.errors import DataError
from compress.data.text_files import lines_of

TOKEN_NAMES = ("tokens", "words", "text")
TAG_NAMES = ("tags", "ner_tags", "labels", "label")


def column_numbers(path: Path) -> dict[str, int]:
    """Map names of columns to their numbers: the first one is `tokens`, the last one `tags`, and all are `column_1` and so on."""
    width = len(next(_sentences(path), [[]])[0])
    numbered = {f"column_{number + 1}": number for number in range(width)}
    return (dict.fromkeys(TOKEN_NAMES, 0) | dict.fromkeys(TAG_NAMES, width - 1) | numbered) if width else {}


def conll_rows(path: Path) -> Iterator[list[list[str]]]:
    """Yield the columns of each sentence, each a list with an entry per token."""
    for sentence in _sentences(path):
        yield [list(column) for column in zip(*sentence, strict=True)]


def _sentences(path: Path) -> Iterator[list[list[str]]]:
    """Yield each sentence as a list of tokens with their tags.

    Raises:
        DataError: a line with fewer than two columns, or other than the first one.
    """
    sentence: list[list[str]] = []
    width = 0
    for number, line in enumerate(lines_of(path), start=1):
        fields = line.split("\t") if "\t" in line.strip() else line.split(" ")
        fields = [field.strip() for field in fields if field.strip()]
        if not fields or fields[0] == "-DOCSTART-" or line.startswith("# id "):
            if sentence:
                yield sentence
            sentence = []
            continue
        width = width or len(fields)
        if len(fields) != width or width < 2:
            expected = f"the first one has {width}" if width >= 2 else "a token and its tag are two"
            raise DataError(
                f"line {number} of {path} has {len(fields)} columns, and {expected}",
                "a CoNLL file has a token and its tags in every line; tables are .csv, .tsv, .jsonl or .parquet",
            )
        sentence.append(fields)
    if sentence:
        yield sentence
