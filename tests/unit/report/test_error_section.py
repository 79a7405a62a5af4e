"""The section about errors: every form of label and prediction, cut, escaped, and gone with its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.report.error_section import TEXT, excerpt
from tests.unit.report.documents import Document, evaluation, read, write_run

EVIL = "<script>alert(1)</script>&"
NAMES = ["teacher", "slim", "int8"]


def classes(labels: list[str]) -> Document:
    table = [{"label": label, "precision": 0.5, "recall": None, "f1": 0.25, "n": 4} for label in labels]
    return {"per_class": table, "confusion": [[3 if row == column else 1 for column in labels] for row in labels]}


def entry(text: Any, expected: Any, first: Any, last: Any, wrong: list[str], row: int = 7) -> Document:
    predictions = {"teacher": first, "slim": first, "int8": last}
    return {"row": row, "text": text, "expected": expected, "predictions": predictions, "wrong": wrong, "disagree": True}


def run_of(folder: Path, examples: list[Document], described: Document | None = None, delivered: str | None = None) -> Path:
    stage = evaluation(NAMES)
    for result in stage["results"]:
        result |= described or {}
    write_run(folder, {"proof": stage})
    lines = [*examples, {**entry("x", "a", "b", "c", NAMES), "disagree": False, "text": "both wrong alike"}]
    (folder / "stages" / "01-proof" / "errors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if delivered:
        (folder / "model").mkdir()
        (folder / "model" / "compress.json").write_text(json.dumps({"stage": delivered}), encoding="utf-8")
    return folder


FORMS: dict[str, tuple[Document, list[str]]] = {
    "a class": (
        entry("one text", "tech", "tech", "sports", ["int8"]),
        ["one text tech tech ✓ right sports ✗ wrong", "only teacher is right on 1"],
    ),
    "a class that the model lacks": (entry("t", "tech", None, "tech", ["teacher"]), ["tech – ✗ wrong tech ✓ right"]),
    "a pair of texts": (entry(["one", "other"], "yes", "no", "yes", ["teacher"]), ["one | other yes no ✗ wrong yes ✓ right"]),
    "several labels": (
        entry("a film", ["drama", "war"], ["drama"], [], NAMES),
        ["a film drama, war drama ✗ wrong none ✗ wrong", "neither on 1"],
    ),
    "tags": (
        entry("in New York .", ["O", "B", "I", "O"], ["O", "B", "I", "O"], ["O", "B", "O", None], ["int8"]),
        ["in New York . York/I ./O York/I ./O ✓ right York/O ./– ✗ wrong", "Only the words whose tags differ"],
    ),
    "a value": (entry(["a", "b"], 3.0, 3.25, 0.5, ["int8"]), ["a | b 3.00 3.25 ✓ right 0.50 ✗ wrong", "Largest differences between"]),
    "a span": (
        entry(["who?", "It was Ada."], ["Ada", "Ada"], "Ada", "was Ada", ["int8"]),
        ["who? | It was Ada. Ada Ada ✓ right was Ada ✗ wrong"],
    ),
    "no span": (entry(["who?", "It was."], [], "", "It", ["int8"]), ["who? | It was. no answer no answer ✓ right It ✗ wrong"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_every_form_of_answer(tmp_path: Path, case: str) -> None:
    example, expected = FORMS[case]
    _, seen = read(run_of(tmp_path / "run", [example]))
    for told in expected:
        assert told in seen.text
    assert "None" not in seen.text
    assert "both wrong alike" not in seen.text


def test_values_come_by_their_difference(tmp_path: Path) -> None:
    _, seen = read(run_of(tmp_path / "run", [entry("near", 1.0, 1.0, 2.0, []), entry("far", 1.0, 1.0, 5.0, ["int8"])]))
    assert seen.text.index("far") < seen.text.index("near")


def test_only_the_first_and_the_delivered_model_count(tmp_path: Path) -> None:
    same = entry("they agree", "a", "b", "b", [])
    same["predictions"]["slim"] = "a"
    also = entry(["q", "They agree but for an article."], ["Ada"], "the Ada", "Ada", [])
    _, seen = read(run_of(tmp_path / "run", [same, also]))
    assert "disagree" not in seen.text
    assert "agree" not in seen.text
    _, seen = read(run_of(tmp_path / "delivered", [same], classes(["a", "b"]), delivered="slim"))
    assert "Errors: slim" in seen.text
    assert "teacher and slim disagree on 1 of 425 examples" in seen.text


def test_at_most_thirty_are_shown(tmp_path: Path) -> None:
    page, seen = read(run_of(tmp_path / "run", [entry(f"number {row}", "a", "a", "b", ["int8"], row) for row in range(57)]))
    assert "disagree on 57 of 425 examples" in seen.text
    assert seen.text.count("number ") == 30
    assert "22 more" in seen.text
    assert "<details>" in page


def test_long_texts_are_cut_before_the_answer_is_lost() -> None:
    assert excerpt("x" * 200, None) == "x" * 200
    assert len(excerpt("x" * 201, None)) == TEXT
    context = "before " * 100 + "Ada Lovelace" + " after" * 100
    shown = excerpt(["who wrote it?", context], ["Ada Lovelace"])
    assert "Ada Lovelace" in shown
    assert len(shown) <= TEXT + 2
    assert shown.startswith("who wrote it? | …")


def test_everything_is_escaped(tmp_path: Path) -> None:
    examples = [entry(EVIL, EVIL, EVIL, "b", ["int8"]), entry([EVIL, EVIL], [EVIL], EVIL, "b", []), entry(EVIL, [EVIL], [EVIL], ["b"], [])]
    page, seen = read(run_of(tmp_path / "run", examples, classes([EVIL, "b"])))
    assert "<script>alert" not in page
    assert EVIL in seen.text


@pytest.mark.parametrize(("count", "turned"), [(2, False), (20, True)])
def test_classes_and_confusion(tmp_path: Path, count: int, turned: bool) -> None:
    page, seen = read(run_of(tmp_path / "run", [], classes([f"label-{number}" for number in range(count)])))
    assert "label-1 50.0 – 25.0 4" in seen.text
    assert "Confusion" in seen.text
    assert page.count('<th scope="row">') == count
    assert ('class="confusion turned"' in page) == turned
    assert "disagree" not in seen.text


def test_without_a_confusion_matrix_or_anything(tmp_path: Path) -> None:
    described = classes(["a", "b"])
    del described["confusion"]
    _, seen = read(run_of(tmp_path / "classes", [], described))
    assert "Errors: int8" in seen.text
    assert "Confusion" not in seen.text
    _, seen = read(run_of(tmp_path / "nothing", []))
    assert "Errors:" not in seen.text


@pytest.mark.parametrize("text", ["{", "[]\n", "{}\n", "\x00", "null\n"])
def test_a_damaged_file_of_errors_costs_nothing_else(tmp_path: Path, text: str) -> None:
    folder = run_of(tmp_path / "run", [], classes(["a", "b"]))
    (folder / "stages" / "01-proof" / "errors.jsonl").write_text(text, encoding="utf-8")
    _, seen = read(folder)
    assert "Errors: int8" in seen.text
