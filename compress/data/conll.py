"""Read CoNLL files: a token per line with its tags, columns separated by blanks or tabs, an empty line after each sentence.

A first column that numbers the tokens of each sentence (CoNLL-U, CoNLL-X, GermEval) is known by its numbers. In such a file comments,
multiword ranges (`1-2`) and empty nodes (`8.1`) are skipped: the rows are the syntactic words, on which taggers are scored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from compress.core.errors import DataError
from compress.data.text_files import lines_of

TOKEN_NAMES = ("tokens", "words", "text")
TAG_NAMES = ("tags", "ner_tags", "labels", "label")
CONLL_U = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
PROBED = 20  # sentences that decide whether the first column numbers the tokens
_COMMENT = re.compile(r"# (id |newdoc|newpar|[\w.:-]+ *= )")  # such as "# sent_id = 3"
_OUTSIDE = re.compile(r"\d+[-.]\d+")  # ids of multiword ranges and empty nodes
_HINT = "a CoNLL file has a token and its tags in every line; tables are .csv, .tsv, .jsonl or .parquet"
Sentence = list[tuple[int, list[str]]]  # line number and fields of each token


@dataclass(frozen=True)
class _Layout:
    """The columns of a file: how many, and from which number on the first one numbers the tokens (None: it does not)."""

    width: int
    start: int | None = None

    @property
    def numbered(self) -> bool:
        return self.start is not None

    @property
    def names(self) -> dict[str, int]:
        """The number of the column with each name."""
        tokens, tags = int(self.numbered), self.width - 1
        named: dict[str, int] = {}
        if self.numbered and self.width == len(CONLL_U):
            named, tags = {name: number for number, name in enumerate(CONLL_U)}, CONLL_U.index("upos")
        numbered = {f"column_{number + 1}": number for number in range(self.width)}
        return dict.fromkeys(TOKEN_NAMES, tokens) | dict.fromkeys(TAG_NAMES, tags) | named | numbered


def column_numbers(path: Path) -> dict[str, int]:
    """Map names of columns to their numbers.

    `tokens` is the first one (after that of numbers), `tags` the last one, and all are `column_1`, `column_2` and so on. Ten columns with
    numbered tokens are CoNLL-U's: `form`, `lemma`, `upos` (also `tags`), `xpos` and so on.

    Raises:
        DataError: a line with fewer than two columns, or other than the first one.
    """
    layout = _layout(path)
    return layout.names if layout.width else {}


def conll_rows(path: Path) -> Iterator[list[list[str]]]:
    """Yield the columns of each sentence, each a list with an entry per token.

    Raises:
        DataError: a line with other columns than the first one, or whose number does not follow.
    """
    layout = _layout(path)
    for sentence in _sentences(path, layout.numbered):
        if layout.start is not None:
            _check_numbers(path, sentence, layout.start)
        yield [list(column) for column in zip(*(fields for _, fields in sentence), strict=True)]


def _layout(path: Path) -> _Layout:
    """Look at the first sentences: the tokens are numbered if most agree, and one has several tokens."""
    probed = list(islice(_sentences(path, True), PROBED))
    for start in (0, 1):
        numbered = [sentence for sentence in probed if _is_numbered(sentence, start)]
        if 2 * len(numbered) > len(probed) and any(len(sentence) > 1 for sentence in numbered):
            return _Layout(len(probed[0][0][1]), start)
    first = list(islice(_sentences(path, False), 1))
    return _Layout(len(first[0][0][1]) if first else 0)


def _is_numbered(sentence: Sentence, start: int) -> bool:
    return all(fields[0] == str(number) and len(fields) > 2 for number, (_, fields) in enumerate(sentence, start))


def _check_numbers(path: Path, sentence: Sentence, start: int) -> None:
    for expected, (line, fields) in enumerate(sentence, start):
        if fields[0] != str(expected):
            raise DataError(
                f"line {line} of {path} is numbered {fields[0]!r}, and {expected} was expected",
                "the first column of this file numbers the tokens of each sentence: is a line or an empty line missing?",
            )


def _sentences(path: Path, numbered: bool) -> Iterator[Sentence]:
    """Yield each sentence.

    Raises:
        DataError: a line with fewer than two columns, or other than the first one; CoNLL-2012.
    """
    sentence: Sentence = []
    width = 0
    for number, line in enumerate(lines_of(path), start=1):
        fields = line.split("\t") if "\t" in line.strip() else line.split(" ")
        fields = [field.strip() for field in fields if field.strip()]
        if line.startswith(("#begin document", "#end document")):
            raise DataError(f"line {number} of {path} is CoNLL-2012's, which is not read", "convert it to two columns: tokens and tags")
        if not fields or fields[0] == "-DOCSTART-" or _is_comment(line, numbered):
            if sentence:
                yield sentence
            sentence = []
            continue
        width = width or len(fields)
        if len(fields) != width or width < 2:
            expected = f"the first one has {width}" if width >= 2 else "a token and its tag are two"
            raise DataError(f"line {number} of {path} has {len(fields)} columns, and {expected}", _HINT)
        if not (numbered and _OUTSIDE.fullmatch(fields[0])):
            sentence.append((number, fields))
    if sentence:
        yield sentence


def _is_comment(line: str, numbered: bool) -> bool:
    """Return whether a line is a comment; where the tokens are numbered, every line that begins with `#` is one."""
    return _COMMENT.match(line) is not None or (numbered and line.startswith("#"))
