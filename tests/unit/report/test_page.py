"""The report on synthetic run folders: whole, offline, readable without JavaScript, and honest about what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress import report
from compress.core.errors import UsageError
from tests.unit.report.documents import (
    DENSE,
    GRAPH,
    INT8,
    SLIM,
    TEACHER,
    Document,
    bench,
    charts,
    evaluation,
    read,
    write_run,
)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A run with every kind of stage and two gates; `slim` is evaluated only, `graph` is benchmarked only."""
    gates = [
        {"gate": "max_drop", "limit": 1.5, "measured": 0.8, "passed": True, "where": "points of accuracy"},
        {"gate": "min_speedup", "limit": 8.0, "measured": 4.4, "passed": False, "where": "int8 against teacher"},
    ]
    measured = {"proof": evaluation(["teacher", "slim", "int8"]), "speed": bench(["teacher", "graph", "int8"], onnx="graph")}
    return write_run(tmp_path / "run", {"teacher": TEACHER, "slim": SLIM, "graph": GRAPH, "int8": INT8, **measured}, gates)


def test_verdict_and_tables_are_plain_text(whole: Path) -> None:
    _, seen = read(whole)
    assert "int8 is 4.4× faster than teacher in PyTorch fp32 (95 % interval 4.3 to 4.5)" in seen.text
    assert (
        "loses 0.8 points of accuracy against teacher (95 % interval of the change −1.2 to +0.5, p = 0.60; not distinguishable from zero)"
        in seen.text
    )
    assert "on bbc-news, test, n = 425." in seen.text
    assert "✓ passed gate max_drop: at most 1.5, measured 0.80" in seen.text
    assert "✗ missed gate min_speedup: at least 8, measured 4.40" in seen.text
    assert "A/A control: teacher timed against itself" in seen.text
    assert "Differences below 1.2 % are noise" in seen.text
    for fact in ("A Processor", "AVX2, AVX512-VNNI", "c0ffee" * 6, "ab" * 32, "cd" * 32, "17 in every stage", "torch 2.13.0", "name: demo"):
        assert fact in seen.text


def test_page_is_one_offline_file(whole: Path) -> None:
    page, seen = read(whole)
    assert page.count("plotly.js v") == 1
    assert charts(page) == {"scatter", "speedups", "sizes", "lengths", "heads", "ffn"}
    fetching = {"src", "srcset", "href", "data", "action", "poster", "background"}
    assert not [attributes for _, attributes in seen.tags if fetching & set(attributes)]
    assert "url(" not in page[: page.index("<body>")]
    assert "@import" not in page[: page.index("<body>")]
    assert "default-src 'none'" in page
    assert [path.name for path in whole.iterdir() if path.name.startswith(".")] == []


def test_summary_rows(whole: Path) -> None:
    rows = report.summary(whole)
    assert [row["model"] for row in rows] == ["teacher", "slim", "graph", "int8"]
    teacher, slim, graph, int8 = rows
    assert (int8["verb"], int8["runtime"], int8["precision"], int8["params"]) == ("quantize", "onnxruntime", "int8", 17_600_000)
    assert int8["delta_points"] == pytest.approx(-0.8)
    assert int8["delta_ci95"] == pytest.approx([-1.2, 0.5])
    assert int8["p50_ms"] == pytest.approx(16 / 4.4)
    assert int8["speedup"]["vs"] == "teacher"
    assert int8["speedup_vs_onnx"]["vs"] == "graph"
    assert teacher["delta_points"] is None
    assert (slim["p50_ms"], slim["speedup"], slim["size_mb"], slim["runtime"]) == (None, None, None, "pytorch")
    assert (graph["accuracy"], graph["ci95"], graph["p_value"]) == (None, None, None)


def test_sizes_of_models_that_were_not_benchmarked_are_read_from_disk(whole: Path) -> None:
    (whole / "stages" / "02-slim" / "model.safetensors").write_bytes(bytes(2_000_000))
    assert report.summary(whole)[1]["size_mb"] == 2.0


def test_documents_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&%{x}"
    names = [evil, "int8"]
    gate = {"gate": evil, "limit": 1.0, "measured": None, "passed": False, "where": evil}
    folder = write_run(tmp_path / "run", {"proof": evaluation(names), "speed": bench(names)}, [gate], name=evil)
    (folder / "recipe.resolved.yaml").write_text(evil, encoding="utf-8")
    page, seen = read(folder)
    assert "alert(1)</script>" not in page
    assert "<script>alert" not in page
    assert evil in seen.text


@pytest.mark.parametrize("count", [1, 2, 12])
def test_any_number_of_models_with_long_names(tmp_path: Path, count: int) -> None:
    names = [f"some-organisation/bert-base-uncased-finetuned-{number}-distilled-pruned-quantized@{'f' * 40}" for number in range(count)]
    folder = write_run(tmp_path / "run", {"proof": evaluation(names), "speed": bench(names)})
    page, seen = read(folder)
    assert all(name in seen.text for name in names)
    assert ("scatter" in charts(page)) == (count > 1)


STAGES: dict[str, tuple[dict[str, Document], set[str], str]] = {
    "nothing measured": ({"teacher": TEACHER}, set(), "wrote teacher and measured neither accuracy nor latency"),
    "eval only": ({"proof": evaluation(["a", "b"])}, {"accuracies"}, "b loses 0.4 points of accuracy against a"),
    "eval of one": ({"proof": evaluation(["a"])}, set(), "a reaches 96.0 points of accuracy (95 % interval 94.0 to 97.5) on bbc-news"),
    "bench only": ({"speed": bench(["a", "b"], lengths=(32,))}, {"speedups", "sizes"}, "b is 2.7× faster than a in PyTorch fp32"),
    "bench of one": ({"speed": bench(["a"])}, {"lengths"}, "a takes 16.00 ms (p50)."),
    "prune only": ({"slim": SLIM}, {"heads", "ffn"}, "wrote slim"),
    "layers all alike": ({"student": {**SLIM, "layers": DENSE[:3], "layers_before": None}}, set(), "wrote student"),
}


@pytest.mark.parametrize("case", STAGES)
def test_runs_that_lack_a_kind_of_stage(tmp_path: Path, case: str) -> None:
    stages, drawn, sentence = STAGES[case]
    page, seen = read(write_run(tmp_path / "run", stages))
    assert charts(page) == drawn
    assert sentence in seen.text
    assert page.count("plotly.js v") == (1 if drawn else 0)
    assert "None" not in seen.text
    assert not re.search(r"\bnan\b", seen.text)


def without_numbers(value: Any) -> Any:
    """Replace every float by None, as a manifest does with what is not finite."""
    if isinstance(value, dict):
        return {key: without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_numbers(item) for item in value]
    return None if isinstance(value, float) else value


def test_values_of_none(tmp_path: Path) -> None:
    stages = {"proof": evaluation(["a", "b"]), "speed": bench(["a", "b"], onnx="a")}
    folder = write_run(tmp_path / "run", {name: {**without_numbers(stage), "seconds": 1.0} for name, stage in stages.items()})
    _, seen = read(folder)
    assert "None" not in seen.text
    assert [row["accuracy"] for row in report.summary(folder)] == [None, None]


def test_a_stage_whose_folder_is_gone(whole: Path) -> None:
    for name in ("02-slim", "05-proof"):
        (whole / "stages" / name / "compress.json").unlink()
    _, seen = read(whole)
    assert "int8 is 4.4× faster than teacher" in seen.text


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an empty folder": (lambda folder: folder.mkdir(), "the folder that `compress run` wrote"),
    "a missing folder": (lambda folder: None, "the folder that `compress run` wrote"),
    "an unfinished run": (
        lambda folder: (folder.mkdir(), (folder / "recipe.resolved.yaml").write_text("")),
        "run the same `compress run` again",
    ),
    "a damaged manifest": (
        lambda folder: (folder.mkdir(), (folder / "manifest.json").write_text("{")),
        "run the same `compress run` again",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_folders_that_are_not_of_a_finished_run(tmp_path: Path, case: str) -> None:
    make, hint = BREAKS[case]
    make(tmp_path / "run")
    with pytest.raises(UsageError) as caught:
        report.write(tmp_path / "run")
    assert hint in str(caught.value.hint)


def test_importing_the_report_imports_nothing_heavy() -> None:
    code = "import sys, compress.report; print([name for name in ('plotly', 'torch', 'numpy', 'pandas') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("damage", [{"stages": {"teacher": 3}}, {"stages": {"teacher": {}}}, {"gates": [{"gate": 1}]}, {"machine": [1]}])
def test_damaged_manifests_are_named_where_anybody_may_have_edited_them(whole: Path, damage: Document) -> None:
    path = whole / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | damage), encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read as those of a run") as caught, report.of_any_run(whole):
        report.write(whole)
    assert caught.value.exit_code == 2
