"""Read JSON as it is published: objects line by line, an array of objects, `{"data": [...]}`, SQuAD's nested files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.core.errors import DataError
from compress.data.text_files import lines_of, open_text

MAX_DOCUMENT = 1 << 30  # characters of a file that is one document
Row = dict[str, Any]


def json_rows(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSON file.

    Raises:
        DataError: contents that are none of the layouts; the message has the line.
    """
    yield from _document_rows(path) if is_document(path) else _line_rows(path)


def is_document(path: Path) -> bool:
    """Return whether the file is one JSON document rather than an object per line."""
    nonblank = (line for line in lines_of(path) if line.strip())
    first = next(nonblank, "")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return first.strip() in ("{", "[") or not _is_object(next(nonblank, ""))
    if isinstance(value, list):
        return next(nonblank, None) is None
    return isinstance(value, dict) and _is_wrapper(value) and next(nonblank, None) is None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):  # not JSON
        return False


def _line_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"line {number} of {path} cannot be read as JSON: {_reason(error)}", "write one JSON object per line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of {path} holds {json.dumps(row)[:60]}, and not a JSON object", "write one JSON object per line"
            )
        yield row


def _document_rows(path: Path) -> Iterator[Row]:
    with open_text(path) as stream:
        text = stream.read(MAX_DOCUMENT + 1)
    if len(text) > MAX_DOCUMENT:
        raise DataError(f"{path} is one JSON document of more than {MAX_DOCUMENT >> 20} MB", "save it with one object per line, as .jsonl")
    try:
        for document in _values(text):
            yield from _rows_of(document, path)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON: {_reason(error)}", "write one JSON object per line, or an array of objects"
        ) from error


def _values(text: str) -> Iterator[object]:
    """Yield the JSON values of a text, one after another."""
    decoder, position = json.JSONDecoder(), 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position == len(text):
            return
        value, position = decoder.raw_decode(text, position)
        yield value


def _is_wrapper(document: Row) -> bool:
    data = document.get("data")
    return isinstance(data, list) and all(isinstance(row, (dict, list)) for row in data)


def _rows_of(document: object, path: Path) -> Iterator[Row]:
    if isinstance(document, dict) and _is_wrapper(document):
        rows, columns = document["data"], document.get("columns")
        if isinstance(columns, list) and all(isinstance(row, list) and len(row) == len(columns) for row in rows):
            rows = [dict(zip(map(str, columns), row, strict=True)) for row in rows]
    else:
        rows = document if isinstance(document, list) else [document]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"entry {number} of {path} is {json.dumps(row)[:60]}, and not a JSON object", "write an array of objects")
        if isinstance(row.get("paragraphs"), list):
            yield from _squad_rows(row, path)
        else:
            yield row


def _squad_rows(article: Row, path: Path) -> Iterator[Row]:
    """Yield a row per question of an article in SQuAD's layout."""
    try:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [] if question.get("is_impossible") else question["answers"]
                yield {**question, "context": paragraph["context"], "title": article.get("title"), "answers": answers}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} has paragraphs, but not in SQuAD's layout: {_reason(error)} is missing or wrong") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
