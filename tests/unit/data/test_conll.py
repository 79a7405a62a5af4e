"""CoNLL files: columns of tokens and tags."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.core.errors import DataError
from compress.data import conll

CONTENT = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n\n# NN O O\n. . O O\n"


def test_sentences_and_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text("\ufeff" + CONTENT, encoding="utf-8")
    numbers = conll.column_numbers(path)
    assert (numbers["tokens"], numbers["ner_tags"], numbers["column_2"]) == (0, 3, 1)
    rows = list(conll.conll_rows(path))
    assert [row[0] for row in rows] == [["EU", "rejects"], ["#", "."]]
    assert [row[3] for row in rows] == [["B-ORG", "O"], ["O", "O"]]


@pytest.mark.parametrize(("content", "line"), [("a O\nb\n", 2), ("a\n", 1), ("a X O\nb O\n", 2)])
def test_a_line_with_other_columns(tmp_path: Path, content: str, line: int) -> None:
    (tmp_path / "x.conll").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"line {line} of"):
        list(conll.conll_rows(tmp_path / "x.conll"))
