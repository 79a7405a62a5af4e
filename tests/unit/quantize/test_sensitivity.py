"""The sensitivity gate: its search on made-up losses, and on a model with planted outliers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core import console
from compress.core.errors import GateMissed
from compress.inference.artifact import OnnxModel
from compress.inference.evaluator import Evaluator
from compress.models.layout import GRAPH
from compress.quantize.method_search import faster_method
from compress.quantize.sensitivity import rank_by_sensitivity, search_float_groups
from tests import tiny
from tests.unit.quantize.stage import run

Losses = dict[str, float]


def dropping(losses: Losses) -> Callable[[frozenset[str]], float]:
    """Return a drop to which every group in int8 adds its own."""
    return lambda floats: sum(loss for group, loss in losses.items() if group not in floats)


def test_sensitivities_are_shares_of_the_error() -> None:
    assert rank_by_sensitivity(["a", "b", "c"], dropping({"a": 1.0, "b": 3.0, "c": 0.0})) == {"b": 0.75, "a": 0.25, "c": 0.0}
    assert rank_by_sensitivity(["a"], lambda floats: 0.0) == {"a": 0.0}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 20), min_size=1), st.integers(0, 40), st.randoms())
def test_the_gate_passes_and_no_float_is_idle(losses: dict[str, int], limit: int, random: Any) -> None:
    """Whatever the ranking: within the limit, and any group that stays float would miss it alone if it went back."""
    ranking = sorted(losses)
    random.shuffle(ranking)
    drop = dropping({group: float(loss) for group, loss in losses.items()})
    found = search_float_groups(ranking, drop, limit)
    assert found is not None
    assert found.lost == drop(frozenset(found.floats)) <= limit
    for group in found.floats:
        assert found.lost_without[group] > limit
        assert drop(frozenset(found.floats) - {group}) > limit
    assert set(found.lost_without) == set(found.floats)


def test_a_good_ranking_keeps_the_fewest() -> None:
    losses = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 1.0}
    for limit, count in ((15, 0), (7, 1), (3, 2), (1, 3), (0, 4)):
        found = search_float_groups(list(losses), dropping(losses), limit)
        assert found is not None
        assert found.floats == list(losses)[:count]


def test_what_was_added_in_vain_is_taken_back() -> None:
    found = search_float_groups(["idle", "guilty", "other"], dropping({"idle": 0.0, "guilty": 5.0, "other": 1.0}), 1.0)
    assert found is not None
    assert (found.floats, found.lost, found.lost_without) == (["guilty"], 1.0, {"guilty": 6.0})


def test_where_floats_do_not_help() -> None:
    assert search_float_groups(["a", "b"], lambda floats: 3.0, 2.9) is None


@pytest.mark.parametrize(
    ("passing", "drops", "interval", "expected"),
    [
        (["dynamic"], {"dynamic": 0.4}, (2.0, 3.0), "dynamic"),
        (["dynamic", "static"], {"dynamic": 0.0, "static": 0.4}, (1.1, 1.2), "static"),
        (["dynamic", "static"], {"dynamic": 0.4, "static": 0.0}, (0.8, 0.9), "dynamic"),
        (["dynamic", "static"], {"dynamic": 0.4, "static": 0.0}, (0.9, 1.1), "static"),
        (["dynamic", "static"], {"dynamic": 0.0, "static": 0.4}, (0.9, 1.1), "dynamic"),
        (["dynamic", "static"], {"dynamic": 0.4, "static": 0.0}, None, "static"),
    ],
)
def test_the_fastest_that_passes(passing: list[str], drops: Losses, interval: Any, expected: str) -> None:
    assert faster_method(passing, drops, interval) == expected


FACTOR = 3000.0


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model two neurons of whose second layer are thousands of times too large, and taken back by the next weights.

    Compared with them all other neurons of the layer are rounded to nothing. The task's labels are the float model's predictions,
    so that int8 loses exactly what it changes.
    """
    home = tmp_path_factory.mktemp("planted")
    model = tiny.make_model("bert")
    layer = model.bert.encoder.layer[1]
    layer.intermediate.dense.weight.data[:2] *= FACTOR
    layer.intermediate.dense.bias.data[:2] = FACTOR
    layer.output.dense.weight.data[:, :2] /= FACTOR
    layer.output.dense.weight.data[:, 2:] *= 3
    folder = home / "model"
    folder.mkdir()
    tiny.save_pretrained(model, folder)
    tiny.write_tokenizer(folder)
    (home / "graph").mkdir()
    from compress.settings import ExportSettings
    from compress.stage import Inputs

    export = __import__("importlib").import_module("compress.export").run
    export(Inputs({"model": folder}), ExportSettings.model_validate({"tolerance": 0.1}), home / "graph")
    texts = [text for text, _ in tiny.sentences(300, seed=9)]
    answers = OnnxModel(home / "graph", hints={})(texts)
    rows = [(text, answer.label) for text, answer in zip(texts, answers, strict=True)]  # pyright: ignore[reportAttributeAccessIssue]
    document: dict[str, Any] = {"name": "own", "text": ["text"], "labels": tiny.LABELS, "max_length": 32}
    for split, part in {"train": rows[:100], "validation": rows[100:]}.items():
        pd.DataFrame(part, columns=["text", "label"]).to_parquet(home / f"{split}.parquet")
        document[split] = str(home / f"{split}.parquet")
    return home / "graph", document


def test_the_gate_finds_the_planted_layer(planted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    graph, document = planted
    for method in ("dynamic", "static"):
        blind = run(graph, tmp_path / method, document, method=method)
        assert blind["metrics"]["validation"]["drop_points"] > 8
        assert blind["float_groups"] == []
    with pytest.raises(GateMissed):
        run(graph, tmp_path / "refused", document, method="static", max_drop=4.0)
    events: list[dict[str, Any]] = []
    with console.observed(events.append):
        made = run(graph, tmp_path / "auto", document, method="auto", max_drop=4.0)
    assert made["metrics"]["validation"]["drop_points"] <= 4.0
    floats = [entry["group"] for entry in made["float_groups"]]
    assert floats[0] == "layer.1 ffn out"
    assert len(floats) <= 3
    assert all(entry["drop_points_in_int8"] > 4 and entry["reason"] for entry in made["float_groups"])
    assert made["float_groups"][0]["sensitivity"] > 0.3
    assert [entry["method"] for entry in made["candidates"]] == ["dynamic", "static"]
    constants = {tensor.name for tensor in onnx.load(str(tmp_path / "auto" / GRAPH)).graph.initializer}
    assert "layer.1.ffn.out.weight" in constants
    assert any("stays float: layer.1 ffn out (in float it removes" in event.get("text", "") for event in events)
    json.dumps(made)


def test_a_gate_that_nothing_passes(planted: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, document = planted
    answers = iter([1.0] + [0.5] * 100)

    monkeypatch.setattr(Evaluator, "score", lambda *args, **options: {"accuracy": next(answers)})
    with pytest.raises(GateMissed, match="even with every matmul in float") as caught:
        run(graph, tmp_path / "auto", document, method="auto", max_drop=4.0)
    assert caught.value.exit_code == 6


def test_a_target_that_is_not_here_is_not_timed(
    planted: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib

    auto = importlib.import_module("compress.quantize.method_search")
    monkeypatch.setattr("compress.core.machine.cpu_flags", lambda: ["avx2"])
    monkeypatch.setattr(auto, "measure_speedup", lambda *args: pytest.fail("timed"))
    graph, document = planted
    made = run(graph, tmp_path / "auto", document, method="auto", target="arm64", max_drop=100.0)
    assert made["target"] == {"name": "arm64", "here": False}
    assert made["instruction_sets"] == ["asimd"]
    assert all("speedup" not in entry for entry in made["candidates"])
    assert "this processor has no arm64" in capsys.readouterr().err
    lost = {entry["method"]: entry["drop_points"] for entry in made["candidates"]}
    assert lost[made["method"]] == min(lost.values())


def test_the_logits_of_auto_are_those_of_its_graph(planted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    graph, document = planted
    made = run(graph, tmp_path / "auto", document, method="auto", max_drop=4.0, report=True)
    batch = tiny.encoded().batch(range(12))
    assert np.isfinite(OnnxModel(tmp_path / "auto", hints={}).logits(batch)).all()
    told = {entry["matmul"]: entry for entry in made["explain"]}
    assert told["layer.1.ffn.out"]["float"]
    assert told["layer.1.ffn.out"]["range"] is None
    assert not told["layer.0.ffn.out"]["float"]
