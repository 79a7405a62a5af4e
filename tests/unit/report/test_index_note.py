"""The sentence on the old index, in the terminal, the report and the model card."""

from __future__ import annotations

from typing import Any

from compress.report.index_note import index_note
from compress.report.measurement_sections import accuracy_section

CHANGE = {"metric": "ndcg@10", "delta": -0.006, "ci95": [-0.012, 0.001], "p_value": 0.2, "test": "paired bootstrap"}
SEARCHED = {"of": "teacher", "valid": True, "metrics": {"ndcg@10": 0.371}, "ci95": {"ndcg@10": [0.339, 0.406]}, "vs_first": CHANGE}
ENTRY: dict[str, Any] = {"model": "int8", "metrics": {"ndcg@10": 0.3702}, "ci95": {"ndcg@10": [0.34, 0.40]}, "index": SEARCHED}


def test_a_valid_index_with_its_cost() -> None:
    assert index_note(ENTRY) == (
        "An index of teacher stays valid for int8: with its queries and the document vectors of teacher, nDCG@10 × 100 is 37.10 (95 % "
        "interval 33.9 to 40.6), 0.60 less than with queries of teacher (95 % interval of the change −1.20 to +0.10); with document "
        "vectors of its own it is 37.02."
    )


def test_an_index_to_make_again() -> None:
    note = index_note({**ENTRY, "index": {**SEARCHED, "valid": False}})
    assert note is not None
    assert note.startswith("Encode the documents again for int8: with its queries")
    other_size = index_note({**ENTRY, "index": {"of": "teacher", "valid": False}})
    assert other_size == "Encode the documents again for int8: its vectors have another size than those of teacher."
    assert index_note({"model": "teacher", "metrics": {}}) is None


def test_the_report_has_the_sentence() -> None:
    stage = {"task": "beir", "split": "test", "n": 20, "main_metric": "ndcg@10", "results": [{**ENTRY, "index": None}, ENTRY]}
    assert accuracy_section("proof", stage).count("An index of teacher stays valid for int8") == 1
