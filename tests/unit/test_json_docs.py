"""docs/json.md lists the keys that the types have, and its examples conform to them."""

from __future__ import annotations

import json
import re
from typing import Any, get_type_hints, is_typeddict

import pytest

from tests import json_reference
from tests.conforms import faults

TEXT = json_reference.PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- example:([\w+]+) -->\n```json\n(.*?)```", TEXT, re.DOTALL)


def test_the_tables_are_current() -> None:
    assert json_reference.updated(TEXT) == TEXT, "run: python -m tests.update_docs"


@pytest.mark.parametrize(
    "name",
    [
        *("TrainedDocument", "PruneDocument", "PrunePlan", "FactorizeDocument", "ShareDocument", "DistillPlan", "ExportDocument"),
        *("QuantizeDocument", "EvalDocument", "BenchDocument", "Manifest", "RunDocument", "SweepDocument"),
    ],
)
def test_every_document_has_its_table(name: str) -> None:
    assert TEXT.count(f"<!-- keys:{name} -->") == 1


@pytest.mark.parametrize(("names", "example"), EXAMPLES, ids=[names for names, _ in EXAMPLES])
def test_examples_conform(names: str, example: str) -> None:
    """Examples may leave keys out, but not name others or give them other types."""
    kinds = [json_reference.type_of(name) for name in names.split("+")]
    document: dict[str, Any] = json.loads(example)
    known = {key for kind in kinds for key in get_type_hints(kind)} | {"output", "up_to_date", "seconds"}
    assert set(document) <= known
    for kind in kinds:
        part = {key: value for key, value in document.items() if key in get_type_hints(kind)}
        assert [fault for fault in faults(part, kind) if "is missing" not in fault] == []


def test_there_are_examples_of_the_main_documents() -> None:
    assert {name for names, _ in EXAMPLES for name in names.split("+")} >= {
        "Manifest", "TrainedDocument", "PruneDocument", "ExportDocument", "QuantizeDocument", "EvalDocument", "BenchDocument",
        "RunDocument",
    }  # fmt: skip


def test_every_key_is_described() -> None:
    for module in json_reference.MODULES:
        for name, kind in vars(module).items():
            if is_typeddict(kind) and name != "WaterfallStep":
                assert set(json_reference.descriptions(kind)) == set(get_type_hints(kind)), name
