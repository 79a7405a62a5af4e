"""Every verb on the real MiniLM and real articles, through the real command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import SLIM, Command


def test_finetune_learns_the_topics(teacher: dict[str, Any], home: Path) -> None:
    assert teacher["metrics"]["validation"]["accuracy"] > 0.75  # of five topics
    assert (home / "teacher" / "model.safetensors").is_file()
    assert teacher["seconds"] > 0


def test_prune_reaches_its_target_and_reloads_from_its_folder_alone(slim: dict[str, Any], home: Path) -> None:
    import compress as suite

    assert slim["target"]["flops"] == 0.5
    assert slim["predicted_speedup"] >= 2.0
    assert slim["measured_speedup"] > 0  # how much depends on the load of the machine
    model = suite.load_model(home / "slim")
    assert sum(parameter.numel() for parameter in model.parameters()) == slim["params"]


def test_distillation_recovers_what_pruning_lost(slim: dict[str, Any], student: dict[str, Any], teacher: dict[str, Any]) -> None:
    scores = student["metrics"]["validation"]
    assert scores["before"] == pytest.approx(slim["metrics"]["validation"]["accuracy"])
    assert scores["accuracy"] > scores["before"]
    assert scores["accuracy"] >= teacher["metrics"]["validation"]["accuracy"] - 0.1


def test_export_is_exact_on_every_batch_shape(graph: dict[str, Any]) -> None:
    assert graph["verification"]["max_abs"] < 1e-4
    assert graph["verification"]["agreement"] == 1.0
    assert len(graph["verification"]["cases"]) == 7


def test_int8_is_a_quarter_of_the_size_and_agrees(int8: dict[str, Any], graph: dict[str, Any]) -> None:
    assert int8["size_mb"] < 0.3 * graph["size_mb"]
    assert int8["verification"]["agreement"] >= 0.9


def test_eval_pairs_every_model_with_the_first(compress: Command, task: list[str], int8: dict[str, Any], student: dict[str, Any]) -> None:
    document = compress("--json", "eval", "teacher", "student", "graph", "int8", *task).document
    assert (document["split"], document["n"]) == ("test", 80)
    by_name = {entry["model"]: entry for entry in document["results"]}
    assert list(by_name) == ["teacher", "student", "graph", "int8"]
    assert "vs_first" not in by_name["teacher"]
    assert by_name["graph"]["metrics"] == by_name["student"]["metrics"]
    for entry in document["results"]:
        low, high = entry["ci95"]["accuracy"]
        assert low <= entry["metrics"]["accuracy"] <= high
    delta = by_name["int8"]["metrics"]["accuracy"] - by_name["teacher"]["metrics"]["accuracy"]
    assert by_name["int8"]["vs_first"]["delta"] == pytest.approx(delta)


def test_bench_interleaves_checkpoints_and_artifacts(compress: Command, int8: dict[str, Any]) -> None:
    document = compress(
        "--json", "bench", "teacher", "graph", "int8", "--rounds", "8", "--seq-len", "16", "--seq-len", "32", "--no-memory"
    ).document
    assert len(document["results"]) == 6
    for entry in document["results"]:
        assert entry["latency_ms"]["p50"] > 0
        assert entry["speedup"]["vs"] == "teacher"
        low, high = entry["speedup"]["ci95"]
        assert low <= entry["speedup"]["ratio"] <= high
    runtimes = {entry["model"]: (entry["runtime"], entry["precision"]) for entry in document["results"]}
    assert runtimes == {"teacher": ("pytorch", "fp32"), "graph": ("onnxruntime", "fp32"), "int8": ("onnxruntime", "int8")}
    assert {control["seq_len"] for control in document["control"]} == {16, 32}


def test_bench_measures_memory_in_a_fresh_process(compress: Command, int8: dict[str, Any]) -> None:
    document = compress("--json", "bench", "int8", "--rounds", "5", "--seq-len", "8").document
    assert 20 < document["results"][0]["peak_rss_mb"] < 1000


def test_predict_labels_arguments_and_lines_of_stdin_alike(compress: Command, int8: dict[str, Any]) -> None:
    text = "Champion wins the final after extra time"
    one = compress("predict", "int8", text).out
    label, score, echoed = one.rstrip("\n").split("\t")
    assert label == "sports"
    assert 0 < float(score) <= 1
    assert echoed == text
    lines = compress("predict", "int8", stdin=f"{text}\nThe bank raised its interest rates again\n").out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("sports\t")


def test_predict_agrees_between_checkpoint_and_graph(compress: Command, graph: dict[str, Any]) -> None:
    pair = ["--pair", "Election called", "Voters will go to the polls in May, the minister said."]
    both = [compress("--json", "predict", model, *pair).document["predictions"][0] for model in ("student", "graph")]
    assert both[0]["label"] == both[1]["label"] == "politics"
    assert both[0]["score"] == pytest.approx(both[1]["score"], abs=1e-4)


def test_the_python_api_opens_what_the_command_line_wrote(int8: dict[str, Any], home: Path) -> None:
    import compress as suite

    model = suite.load_onnx(home / "int8")
    texts = [("Match report", "The striker scored twice."), ("Chart news", "The singer released an album.")]
    found = model(texts)
    assert isinstance(found, list)
    assert [prediction.label for prediction in found] == [model(text).label for text in texts]  # type: ignore[union-attr, reportAttributeAccessIssue]
    assert np.allclose(model.probabilities(texts).sum(axis=1), 1, atol=1e-5)


def test_a_student_of_fewer_layers_is_taken_from_its_teacher(compress: Command, task: list[str], teacher: dict[str, Any]) -> None:
    arguments = ["--epochs", "1", "--batch-size", "16", "--match", "uniform", "-o", "shallow"]
    document = compress("--json", "distill", "--teacher", "teacher", "--student", "layers=3", *task, *arguments).document
    assert len(document["layers"]) == 3
    assert document["metrics"]["validation"]["accuracy"] > 0.5


def test_the_same_call_again_changes_nothing(compress: Command, task: list[str], slim: dict[str, Any], home: Path) -> None:
    before = (home / "slim" / "model.safetensors").stat().st_mtime_ns
    again = compress("--json", "prune", "teacher", *task, *SLIM, "-o", "slim")
    assert "up to date" in again.err
    assert again.document["layers"] == slim["layers"]
    assert (home / "slim" / "model.safetensors").stat().st_mtime_ns == before


def test_other_settings_never_replace_an_output_unasked(compress: Command, task: list[str], slim: dict[str, Any]) -> None:
    refused = compress("prune", "teacher", *task, "--target-flops", "0.4", *SLIM[2:], "-o", "slim", check=False)
    assert refused.code == 2
    assert "--overwrite" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["finetune", "no-such-folder", "--task", "bbc-news", "-o", "x"], 4, "no model folder"),
        (["eval", "teacher", "--task", "bbc-news", "--device", "cuda"], 5, "CPU build"),
        (["prune", "graph", "--task", "bbc-news", "--target-flops", "0.5", "-o", "x"], 4, "ONNX artifact"),
        (["quantize", "int8", "-o", "x"], 4, "quantized already"),
        (["run", "no-such-recipe"], 3, "unknown recipe"),
        (
            ["finetune", "builtin:minilm-l6", "--train", "train.csv", "--text", "title", "--label", "topics", "-o", "x"],
            4,
            "did you mean 'topic'",
        ),
        (["prune", "teacher", "--task", "bbc-news", "-o", "x"], 2, "target"),
    ],
)
def test_bad_input_gets_one_message_its_code_and_leaves_nothing(
    compress: Command, int8: dict[str, Any], home: Path, arguments: list[str], code: int, says: str
) -> None:
    outcome = compress(*arguments, check=False)
    assert outcome.code == code, outcome.err
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(home.glob("x")) + list(home.glob(".x.*"))


def test_a_closed_pipe_ends_quietly(compress: Command, int8: dict[str, Any], home: Path) -> None:
    import subprocess
    import sys

    lines = "a line of text\n" * 2000
    command = f"{sys.executable} -m compress predict int8 | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=home, input=lines, capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_listings_and_doctor(compress: Command) -> None:
    assert "demo" in {entry["name"] for entry in compress("--json", "recipes", "list", fresh=True).document["recipes"]}
    assert "bbc-news" in {entry["name"] for entry in compress("--json", "tasks", "list").document["tasks"]}
    machine = compress("--json", "doctor").document
    assert machine["machine"]["cores"] >= 1
    assert machine["builtins"] == {"builtin:minilm-l6": True, "bbc-news": True}
    assert "stages:" in compress("recipes", "show", "demo").out
