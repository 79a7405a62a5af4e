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


UNIVERSAL = """# newdoc id = a
# sent_id = a-1
# text = Vado al mare.
1\tVado\tandare\tVERB\tV\t_\t0\troot\t_\t_
2-3\tal\t_\t_\t_\t_\t_\t_\t_\t_
2\ta\ta\tADP\tE\t_\t4\tcase\t_\t_
3\til\til\tDET\tRD\t_\t4\tdet\t_\t_
3.1\tempty\tempty\tX\tX\t_\t_\t_\t4:dep\t_
4\tmare\tmare\tNOUN\tS\t_\t1\tobl\t_\tSpaceAfter=No

# sent_id = a-2
# text = # New York
1\t#\t#\tSYM\t_\t_\t2\tdep\t_\t_
2\tNew York\tNew York\tPROPN\t_\t_\t0\troot\t_\t_
"""
NUMBERED = "#\thttp://example.org [2009-10-17]\n1\tAufgrund\tO\tO\n2\tseiner\tO\tB-PER\n\n#\thttp://example.org\n1\tJa\tO\tO\n"


def read(tmp_path: Path, content: str, name: str = "x.conll") -> tuple[dict[str, int], list[list[list[str]]]]:
    """Return the numbers of the columns of a file, and its rows."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return conll.column_numbers(path), list(conll.conll_rows(path))


def test_universal_dependencies(tmp_path: Path) -> None:
    numbers, rows = read(tmp_path, UNIVERSAL, "x.conllu")
    assert [row[numbers["tokens"]] for row in rows] == [["Vado", "a", "il", "mare"], ["#", "New York"]]
    assert [row[numbers["tags"]] for row in rows] == [["VERB", "ADP", "DET", "NOUN"], ["SYM", "PROPN"]]
    assert (numbers["upos"], numbers["xpos"], numbers["form"], numbers["column_8"]) == (3, 4, 1, 7)


def test_a_column_that_numbers_the_tokens(tmp_path: Path) -> None:
    for content in (NUMBERED, NUMBERED.replace("1\t", "0\t").replace("2\t", "1\t")):
        numbers, rows = read(tmp_path, content)
        assert [row[numbers["tokens"]] for row in rows] == [["Aufgrund", "seiner"], ["Ja"]]
        assert [row[numbers["tags"]] for row in rows] == [["O", "B-PER"], ["O"]]


def test_numbers_may_be_tokens(tmp_path: Path) -> None:
    numbers, rows = read(tmp_path, "1 CD O\n2 CD O\n\nthe DT O\n3 CD O\n")
    assert [row[numbers["tokens"]] for row in rows] == [["1", "2"], ["the", "3"]]
    numbers, rows = read(tmp_path, "1 O\n2 O\n")
    assert [row[numbers["tokens"]] for row in rows] == [["1", "2"]]


def test_comments_are_no_tokens_and_hashtags_are(tmp_path: Path) -> None:
    numbers, rows = read(tmp_path, "# sent_id = 1\n#id X Y O\n# NN O O\n\n# id 7a domain=en\nb X Y O\n")
    assert [row[numbers["tokens"]] for row in rows] == [["#id", "#"], ["b"]]


@pytest.mark.parametrize("copies", [2, 30])
def test_a_lost_line_is_named(tmp_path: Path, copies: int) -> None:
    damaged = UNIVERSAL.replace("3\til\til\tDET\tRD\t_\t4\tdet\t_\t_\n", "")
    line = len("\n".join([UNIVERSAL] * copies).splitlines()) + 1 + 8
    with pytest.raises(DataError, match=f"line {line} of .* is numbered '4', and 3 was expected"):
        read(tmp_path, "\n".join([UNIVERSAL] * copies) + "\n" + damaged)


def test_conll_2012_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1 of .* CoNLL-2012"):
        read(tmp_path, "#begin document (bc/cctv); part 000\nbc/cctv 0 0 The DT (TOP* - - - - * -\n")
