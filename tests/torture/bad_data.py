"""Bad data: rows, columns, labels and files that cannot be what was meant; and some that only look so."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from tests import page_header
from tests.torture.bad_case import Bad, written

FLAGS = [
    "--kind",
    "text-classification",
    "--validation",
    "data/validation.parquet",
    "--text",
    "text",
    "--label",
    "label",
    "--max-length",
    "32",
]
ROWS = "".join(f"the {word} dog,{label}\n" for word in ("red", "old", "big", "bad") for label in ("animal", "food", "colour"))


def _tune(name: str, *more: str) -> list[str]:
    return ["finetune", "model", "--train", name, *FLAGS, "--epochs", "1", "--batch-size", "4", "--precision", "fp32", *more, "-o", "out"]


def _csv(item: str, name: str, text: str | bytes, says: str, code: int = 4, file: str = "bad.csv") -> Bad:
    return Bad(item, name, _tune(file), code, says, written(text, file))


def _parquet(item: str, name: str, columns: dict[str, list[object]], says: str, code: int = 4) -> Bad:
    def build(work: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), work / "bad.parquet")

    return Bad(item, name, _tune("bad.parquet"), code, says, build)


def _lines(item: str, name: str, rows: list[object], says: str, code: int = 4, arguments: list[str] | None = None) -> Bad:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return Bad(item, name, arguments or _tune("bad.jsonl"), code, says, written(text, "bad.jsonl"))


def _kind(kind: str, *columns: str) -> list[str]:
    return ["finetune", "model", "--kind", kind, "--train", "bad.jsonl", "--validation", "bad.jsonl", *columns, "--epochs", "1",
            "--batch-size", "4", "--precision", "fp32", "--max-length", "32", "-o", "out"]  # fmt: skip


def _damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda work: (work / "bad.parquet").write_bytes(change((work / "data/train.parquet").read_bytes()))


def _claiming(field: str, value: int) -> Callable[[Path], None]:
    """Return a function that writes a Parquet file whose first page header lies."""

    def build(work: Path) -> None:
        import pandas as pd

        pd.DataFrame({"text": ["a red dog"] * 300, "label": ["animal", "food", "colour"] * 100}).to_parquet(
            work / "bad.parquet", compression=None, use_dictionary=False, write_statistics=False
        )
        (work / "bad.parquet").write_bytes(page_header.claiming((work / "bad.parquet").read_bytes(), field, value))

    return build


def _conll(name: str, text: str, code: int, says: str) -> Bad:
    arguments = [part.replace("bad.jsonl", "bad.conll") for part in TAGS]
    return Bad("CoNLL", name, arguments, code, says, written(text, "bad.conll"))


TAGS = _kind("token-classification", "--text", "tokens", "--label", "tags")
SPANS = _kind("question-answering", "--text", "question", "--text", "context")
MENTIONS = _kind("coreference")
PAIR = {
    "text": "Ann met Bob; she left",
    "pronoun": "she",
    "pronoun_offset": 13,
    "a": "Ann",
    "a_offset": 0,
    "a_coref": True,
    "b": "Bob",
    "b_offset": 8,
    "b_coref": False,
}
GOOD = [{"text": f"the {word} dog", "label": label} for word in ("red", "old", "big") for label in ("animal", "food", "colour")]

CASES = [
    _csv("no rows", "header only", "text,label\n", "no rows"),
    _csv("no rows", "empty file", "", "bad.csv"),
    _csv("no rows", "blank lines", "\n\n\n", "bad.csv"),
    _parquet("no rows", "parquet", {"text": [], "label": []}, ""),
    _csv("no rows", "empty jsonl", "", "bad.jsonl", file="bad.jsonl"),
    _csv("no rows", "empty array", "[]", "bad.json", file="bad.json"),
    _csv("wrong column", "near", "text,lable\n" + ROWS, "did you mean 'lable'"),
    _csv("wrong column", "far", "a,b\n" + ROWS, "columns"),
    _csv("wrong column", "capitals", "Text,Label\n" + ROWS, "text"),
    _csv("wrong column", "twice", "text,text,label\n" + ROWS.replace("the ", "a,the "), "", 0),
    _csv("one class only", "one", "text,label\n" + "".join(f"dog {n},animal\n" for n in range(8)), ""),
    _csv("labels", "null", "text,label\n" + ROWS + "the dog,\n", "label"),
    _csv("labels", "-1 in numbers", "text,label\n" + "".join(f"dog {n},{n % 3 - 1}\n" for n in range(9)), "-1"),
    _parquet("labels", "-1 in parquet", {"text": ["a b"] * 9, "label": [0, 1, -1] * 3}, "-1"),
    _parquet("labels", "null in parquet", {"text": ["a b"] * 9, "label": [0, 1, None] * 3}, ""),
    _parquet("labels", "fractions", {"text": ["a b"] * 9, "label": [0.5, 1.0, 2.0] * 3}, ""),
    _parquet("labels", "nan", {"text": ["a b"] * 9, "label": [0.0, 1.0, float("nan")] * 3}, ""),
    _parquet("labels", "huge", {"text": ["a b"] * 9, "label": [0, 1, 2**40] * 3}, ""),
    _parquet("labels", "dates", {"text": ["a b"] * 9, "label": [b"x", b"y", b"z"] * 3}, ""),
    Bad("labels", "unknown class", ["finetune", "model", "--task", "bad.yaml", "-o", "out"], 4, "plant", lambda work: (
        (work / "bad.csv").write_text("text,label\n" + ROWS + "the dog,plant\n"),
        (work / "bad.yaml").write_text("text: [text]\nlabels: [animal, food, colour]\ntrain: bad.csv\nvalidation: data/validation.parquet\n"))),
    _csv("labels", "one per row", "text,label\n" + "".join(f"dog {n},name {n}\n" for n in range(300)), ""),
    _lines("labels", "lists", [{"text": "a", "label": ["x", "y"]}] * 9, "label"),
    _lines("labels", "objects", [{"text": "a", "label": {"x": 1}}] * 9, "label"),
    _lines("labels", "mixed", [*GOOD, {"text": "a", "label": 3}], "4 labels", 0),
    _lines("texts", "numbers", [{"text": 3, "label": "animal"}, *GOOD], "", 0),
    _lines("texts", "null", [{"text": None, "label": "animal"}, *GOOD], "text"),
    _lines("texts", "lists", [{"text": ["a", "b"], "label": "animal"}, *GOOD], "text"),
    _lines("texts", "100,000 characters", [{"text": "dog " * 25000, "label": "animal"}, *GOOD], "", 0),
    _lines("texts", "one word of 100,000", [{"text": "d" * 100_000, "label": "animal"}, *GOOD], "", 0),
    _lines("texts", "emoji", [{"text": "👩‍👩‍👧‍👦🏳️‍🌈 \u202e dog", "label": "animal"}, *GOOD], "", 0),
    _lines("texts", "NUL", [{"text": "a\0b dog", "label": "animal"}, *GOOD], "", 0),
    _lines("texts", "surrogate", [{"text": "a \ud800 dog", "label": "animal"}, *GOOD], "", 4),
    _lines("texts", "empty", [{"text": "", "label": "animal"}, *GOOD], "", 0),
    _csv("texts", "NUL in CSV", b"text,label\na\0b,animal\n" + ROWS.encode(), "13 training", 0),
    Bad("calibration", "smaller than a batch", ["prune", "model", "--task", "task.yaml", "--target-flops", "0.6", "--calib-samples", "1", "-o", "out"], 0, ""),
    Bad("calibration", "static, one text", ["quantize", "model", "--task", "task.yaml", "--method", "static", "--calib-samples", "1", "--max-drop", "100", "-o", "out"], 0, ""),
    Bad("overlap", "train and test", ["eval", "model", "--kind", "text-classification", "--train", "data/train.parquet", "--test", "data/train.parquet",
        "--validation", "data/validation.parquet", "--text", "text", "--label", "label"], 0, "warning"),
    _csv("CSV", "more fields", "text,label\n" + ROWS + "a,b,c,d\n", "line 14"),
    _csv("CSV", "fewer fields", "text,label\n" + ROWS + "alone\n", "line 14"),
    _csv("CSV", "open quote", 'text,label\n"open,animal\n' + ROWS, ""),
    _csv("CSV", "latin-1", "text,label\ncafé,animal\n".encode("latin-1") + ROWS.encode(), "utf-8"),
    _csv("CSV", "UTF-16", ("text,label\n" + ROWS).encode("utf-16"), "12 training", 0),
    _csv("CSV", "BOM", b"\xef\xbb\xbf" + ("text,label\n" + ROWS).encode(), "", 0),
    _csv("CSV", "mixed line ends", ("text,label\r\n" + ROWS).replace("food\n", "food\r\n"), "", 0),
    _csv("CSV", "binary", bytes(range(256)) * 8, ""),
    _csv("JSON", "broken line", '{"text": "a", "label": "animal"}\n{"text": \n', "line 2", file="bad.jsonl"),
    _csv("JSON", "numbers", "1\n2\n3\n", "", file="bad.jsonl"),
    _csv("JSON", "array of numbers", "[1, 2, 3]", "", file="bad.json"),
    _csv("JSON", "text", '"hello"', "", file="bad.json"),
    _csv("JSON", "deep", "[" * 100_000, "", file="bad.json"),
    _csv("JSON", "NaN", '{"text": NaN, "label": "animal"}\n', "", file="bad.jsonl"),
    Bad("Parquet", "cut", _tune("bad.parquet"), 4, "bad.parquet", _damaged(lambda data: data[: len(data) // 2])),
    Bad("Parquet", "empty", _tune("bad.parquet"), 4, "bad.parquet", _damaged(lambda data: b"")),
    Bad("Parquet", "flipped", _tune("bad.parquet"), 4, "bad.parquet", _damaged(lambda data: data[:-40] + bytes(b ^ 255 for b in data[-40:-8]) + data[-8:])),
    Bad("Parquet", "is CSV", _tune("bad.parquet"), 4, "bad.parquet", written("text,label\n" + ROWS, "bad.parquet")),
    *(Bad("Parquet", f"a page claims {value} of {field}", _tune("bad.parquet"), 4, "bad.parquet", _claiming(field, value))
      for field in page_header.FIELDS for value in (2**31 - 1, 10**6, -1)),
    Bad("Parquet", "a page claims no values", _tune("bad.parquet"), 4, "bad.parquet", _claiming("values", 0)),
    _conll("two columns", "a\tX\nb\tY\n\nc\tX\n\n" * 4, 0, "8 training"),
    _conll("blanks, four columns, -DOCSTART-", "-DOCSTART- -X- O O\n\n" + "a N I X\nb V I Y\n\nc N I X\n\n" * 4, 0, "8 training"),
    _conll("CoNLL-U", "# text = ab c\n1-2\tab" + "\t_" * 8 + "".join(f"\n{n}\t{w}\t{w}\tX" + "\t_" * 6 for n, w in ((1, "a"), (2, "b"))) + "\n\n" +
           "# sent_id = 2\n1\tc\tc\tY" + "\t_" * 6 + "\n\n", 0, "2 training"),
    _conll("a number is missing", ("1\ta\tO\tX\n2\tb\tO\tY\n\n" * 4) + "1\ta\tO\tX\n3\tb\tO\tY\n\n", 4, "line 14"),
    _conll("a column is missing", "a\tX\nb\n", 4, "line 2"),
    _conll("CoNLL-2012", "#begin document (bc); part 000\nbc 0 0 The DT * - - *\n", 4, "CoNLL-2012"),
    _conll("a table", "text,label\na dog,animal\n", 4, "line"),
    Bad("gzip", "not gzip", _tune("bad.csv.gz"), 4, "bad.csv.gz", written("text,label\n" + ROWS, "bad.csv.gz")),
    Bad("gzip", "cut", _tune("bad.csv.gz"), 4, "bad.csv.gz", lambda work: (work / "bad.csv.gz").write_bytes(gzip.compress(("text,label\n" + ROWS * 50).encode())[:-20])),
    Bad("gzip", "bomb", _tune("bad.csv.gz"), 4, "bad.csv.gz", lambda work: (work / "bad.csv.gz").write_bytes(_bomb())),
    Bad("file", "missing", _tune("none.csv"), 4, "none.csv"),
    Bad("file", "unknown ending", _tune("bad.xlsx"), 4, "bad.xlsx", written("x", "bad.xlsx")),
    Bad("file", "no ending", _tune("bad"), 4, "bad", written("x", "bad")),
    Bad("file", "empty folder", _tune("folder"), 4, "folder", lambda work: (work / "folder").mkdir()),
    Bad("file", "glob without a match", _tune("none-*.csv"), 4, "none-"),
    Bad("file", "NUL", _tune("a\0b.csv"), 4, ""),
    Bad("file", "fifo", _tune("bad.csv"), 4, "bad.csv", lambda work: __import__("os").mkfifo(work / "bad.csv")),
    _lines("tags", "lengths differ", [{"tokens": ["a", "b"], "tags": ["X", "Y"]}, {"tokens": ["a", "b"], "tags": ["X"]}] * 4, "row", arguments=TAGS),
    _lines("tags", "text instead of a list", [{"tokens": "a b", "tags": ["X", "Y"]}] * 4, "", 0, arguments=TAGS),
    _lines("tags", "null tag", [{"tokens": ["a", "b"], "tags": ["X", None]}] * 4, "tags", arguments=TAGS),
    _lines("tags", "-1", [{"tokens": ["a", "b"], "tags": [0, -1]}] * 4, "-1", arguments=TAGS),
    _lines("tags", "empty rows", [{"tokens": [], "tags": []}] * 4, "", arguments=TAGS),
    _lines("spans", "none in its place", [{"question": "q", "context": "a b c", "answers": {"text": ["z"], "answer_start": [1]}}] * 4, "", arguments=SPANS),
    _lines("spans", "beyond the end", [{"question": "q", "context": "a b c", "answers": {"text": ["b"], "answer_start": [99999]}}] * 3
           + [{"question": "q", "context": "x", "answers": {"text": ["q"], "answer_start": [-5]}}], "row 1", arguments=SPANS),
    _lines("spans", "no answers", [{"question": "q", "context": "a b c", "answers": {"text": [], "answer_start": []}}] * 4, "answer", arguments=SPANS),
    _lines("spans", "answers are text", [{"question": "q", "context": "a b c", "answers": "b"}] * 4, "", arguments=SPANS),
    _lines("mentions", "offset of another word", [PAIR, PAIR | {"a_offset": 4}], "row 2", arguments=MENTIONS),
    _lines("mentions", "offset outside", [PAIR, PAIR | {"b_offset": 10**30}], "outside", arguments=MENTIONS),
    _lines("mentions", "offset before", [PAIR, PAIR | {"pronoun_offset": -1}], "outside", arguments=MENTIONS),
    _lines("mentions", "two antecedents", [PAIR, PAIR | {"b_coref": True}], "both names", arguments=MENTIONS),
    _lines("mentions", "overlap", [PAIR, PAIR | {"b": "nn", "b_offset": 1}], "overlap", arguments=MENTIONS),
    _lines("mentions", "no column", [{name: PAIR[name] for name in PAIR if name != "b"}], "column 'b'", arguments=MENTIONS),
    _lines("mentions", "null", [PAIR, PAIR | {"a": None}], "row 2", arguments=MENTIONS),
    _lines("mentions", "empty", [], "bad.jsonl", arguments=MENTIONS),
    _lines("mentions", "lists", [PAIR, PAIR | {"text": ["Ann"]}], "row 2", arguments=MENTIONS),
    _lines("regression", "words", [{"text": "a", "label": "big"}] * 4, "label", arguments=_kind("regression", "--text", "text", "--label", "label")),
    _lines("regression", "squares beyond float32", [{"text": f"dog {n}", "label": n * 1e30} for n in range(8)], "learning rate", 7,
           arguments=_kind("regression", "--text", "text", "--label", "label")),
    _lines("regression", "infinite", [{"text": "a", "label": 1e400}] * 4, "", arguments=_kind("regression", "--text", "text", "--label", "label")),
    _lines("regression", "null", [{"text": "a", "label": None}] * 4, "", arguments=_kind("regression", "--text", "text", "--label", "label")),
]  # fmt: skip


def _bomb() -> bytes:
    """Return a megabyte that unpacks to a gigabyte: members of a gzip file may be repeated."""
    member = gzip.compress(b"text,label\n" + b"a,b\n" * (1 << 22))
    return member * 64
