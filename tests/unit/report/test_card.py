"""The model card: what the Hub reads of it is right, and its lines of code run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

import compress
from compress.core import artifacts, files
from compress.data.encoding import encode_examples
from compress.data.texts import examples_from_texts
from compress.inference.artifact import load_onnx
from compress.report.card import base_model, model_card
from compress.report.usage import CONTEXT, MENTION_PAIR, OTHER, QUESTION, TEXT, WORDS
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny

Document = dict[str, Any]
Maker = Callable[..., Path]
TASKS: dict[str, Document] = {
    "class": {"name": "topics", "kind": "text-classification", "text": ["text"], "metrics": ["accuracy"]},
    "pairs": {"name": "pairs", "kind": "text-classification", "text": ["one", "other"], "metrics": ["accuracy", "f1"]},
    "labels": {"name": "genres", "kind": "text-classification", "multi_label": True, "text": ["text"], "metrics": ["micro_f1", "macro_f1"]},
    "value": {"name": "scores", "kind": "regression", "text": ["one", "other"], "metrics": ["spearman", "pearson"]},
    "tags": {"name": "names", "kind": "token-classification", "text": ["tokens"], "metrics": ["entity_f1"]},
    "span": {"name": "squad", "kind": "question-answering", "text": ["question", "context"], "metrics": ["squad_f1", "exact_match"],
             "hub": {"repo": "rajpurkar/squad", "train": "x"}},
    "mentions": {"name": "gap", "kind": "coreference", "text": ["text"], "metrics": ["gap_f1", "gap_bias"]},
}  # fmt: skip
PIPELINES = {"tags": "token-classification", "span": "question-answering", "mentions": "token-classification"}


def manifests(case: str, **changes: Any) -> dict[str, Document]:
    """Return the documents of a run that made `int8`, evaluated and timed it."""
    task = TASKS[case]
    target = "class" if case == "pairs" else case
    lineage = [{"model": "google-bert/bert-base-uncased@main"}, {"verb": "finetune", "seed": 1, "settings": {"lr": 1e-5, "patience": None}}]
    int8 = {
        "kind": "onnx", "verb": "quantize", "stage": "int8", "precision": "int8", "weights": "int8 per channel", "task": task,
        "lineage": lineage, "inputs": {}, "layers": [{"heads": 4, "ffn": 64}, {"heads": 2, "ffn": 8}],
        "runtime": {"disabled_optimizers": ["BiasGeluFusion"]}, "input_spec": {"target": target, "max_length": 48, "max_answer": 5},
    }  # fmt: skip
    scores = {name: 0.9 - 0.01 * number for number, name in enumerate(task["metrics"])}
    entry = {"metrics": scores, "ci95": {name: [value - 0.02, value + 0.02] for name, value in scores.items()}}
    compared = {"delta": -0.01, "ci95": [-0.02, 0.0], "p_value": 0.2}
    proof = {
        "kind": "measurement", "verb": "eval", "task": task["name"], "split": "test", "n": 100, "main_metric": task["metrics"][0],
        "results": [{"model": "teacher", **entry}, {"model": "int8", **entry, "vs_first": compared}],
    }  # fmt: skip
    timed = {
        "model": "int8", "runtime": "onnxruntime", "precision": "int8", "threads": 1, "batch_size": 1, "seq_len": 32, "size_mb": 1.0,
        "latency_ms": {"p50": 1.5}, "speedup": {"vs": "teacher", "ratio": 4.0, "ci95": [3.9, 4.1]},
    }  # fmt: skip
    speed = {
        "kind": "measurement",
        "verb": "bench",
        "machine": {"cpu": "A Processor"},
        "results": [timed, {**timed, "seq_len": 41, "lengths": "task"}],
    }
    return {"int8": {**int8, **changes}, "proof": proof, "speed": speed}


def front(card: str) -> Document:
    return yaml.safe_load(card.split("---\n")[1])


def code(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.parametrize("kind", TASKS)
def test_the_hub_can_read_the_front_matter(kind: str) -> None:
    card = model_card("demo", "int8", manifests(kind))
    matter = front(card)
    assert "license" not in matter
    assert matter["base_model"] == "google-bert/bert-base-uncased"
    assert matter["pipeline_tag"] == PIPELINES.get(kind, "text-classification")
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"] == {
        "name": TASKS[kind]["name"],
        "type": "rajpurkar/squad" if kind == "span" else TASKS[kind]["name"],
        "split": "test",
    }
    assert [type(metric["value"]) for metric in result["metrics"]] == [float] * len(TASKS[kind]["metrics"])
    read = ModelCard(card).data
    assert read.model_name == "demo-int8"
    assert read.eval_results is not None
    assert [found.metric_value for found in read.eval_results] == pytest.approx([0.9, 0.89][: len(read.eval_results)])


def test_the_card_tells_what_was_done_and_where_it_ends() -> None:
    card = model_card("demo", "int8", manifests("class"))
    assert "int8 is 4.0× faster than teacher" in card
    assert "- `finetune` (seed 1; lr 1e-05)" in card
    assert "| ONNX Runtime int8 | 1 | 1 | task's own (mean 41) | 1.50 | 4.00× over teacher |" in card
    limits = card.split("## Limits")[1]
    for told in ("48 tokens are cut", "topics (test, n = 100)", "A Processor", "VNNI", "license"):
        assert told in limits
    assert "7 bits" in model_card("demo", "int8", manifests("class", weights="int8 per channel, 7 bits"))


def test_a_card_without_measurements_or_a_task() -> None:
    only = {"int8": manifests("class")["int8"] | {"task": None, "lineage": [{"model": "/home/me/secret/teacher"}], "precision": "fp32"}}
    card = model_card("demo", "int8", only)
    assert "model-index" not in front(card)
    assert "base_model" not in front(card)
    assert "secret" not in card
    assert "a local model, `teacher`" in card
    assert "VNNI" not in card


def test_another_model_with_the_name_of_the_stage_lends_it_no_scores() -> None:
    documents = manifests("class")
    old = {**documents["proof"]["results"][0], "model": "/home/me/old/int8", "metrics": {"accuracy": 0.123}}
    documents["proof"]["results"][0] = old
    timed = documents["speed"]["results"]
    slow = {**timed[0], "model": "/home/me/old/int8 (openvino)", "latency_ms": {"p50": 77.7}}
    documents["speed"]["results"] = [slow, {**timed[0], "speedup": {**timed[0]["speedup"], "vs": "/home/me/old/int8"}}]
    documents["speed"]["results"][1]["speedup_vs_onnx"] = {"vs": "/home/me/old/int8 (openvino)", "ratio": 2.0, "ci95": [1.9, 2.1]}
    card = model_card("demo", "int8", documents)
    (result,) = front(card)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(0.9)
    assert "| ./int8 | 12.30" in card
    assert "77.7" not in card
    assert "/home/me" not in card
    assert "int8 is 4.0× faster than ./int8" in card


def test_values_of_none_are_left_out() -> None:
    documents = manifests("pairs")
    documents["proof"]["results"][1] |= {"metrics": {"accuracy": 0.9, "f1": None}, "ci95": {"accuracy": [None, None], "f1": None}}
    card = model_card("demo", "int8", documents)
    assert [metric["type"] for metric in front(card)["model-index"][0]["results"][0]["metrics"]] == ["accuracy"]
    assert "None" not in card


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("owner/name@v1.0", "owner/name"),
        ("bert-base-uncased", "google-bert/bert-base-uncased"),
        ("builtin:minilm-l6", None),
        ("./teacher", None),
        ("../a/b", None),
        ("/models/teacher", None),
        ("", None),
    ],
)
def test_the_base_model_is_a_hub_id_or_nothing(reference: str, expected: str | None) -> None:
    assert base_model(reference) == expected


@pytest.mark.parametrize("kind", TASKS)
def test_the_card_of_a_checkpoint(kind: str) -> None:
    alike = [{"heads": 4, "ffn": 64}] * 3
    card = model_card("demo", "int8", manifests(kind, kind="checkpoint", precision=None, layers=alike, plain=True))
    assert front(card)["library_name"] == "transformers"
    assert "compress predict ." in card
    shared = manifests(kind, kind="checkpoint", layers=alike, plain=False)  # or factorized embeddings, or adapters
    assert "library_name" not in front(model_card("demo", "int8", shared))
    assert "onnxruntime" not in card.split("## What was done")[0]


RUNS = [(kind, None) for kind in TASKS] + [("span", threshold) for threshold in (0.0, -1000.0, 1000.0)]
# Special tokens of two kinds: those of BERT and of RoBERTa, in turn, and both for pairs of texts.
CARDS = [*((kind, threshold, family) for (kind, threshold), family in zip(RUNS, cycle(["bert", "roberta"]), strict=False))]
CARDS += [(kind, None, family) for kind in ("pairs", "span") for family in ("bert", "roberta") if (kind, None, family) not in CARDS]


@pytest.mark.parametrize(("kind", "threshold", "family"), CARDS)
def test_the_lines_of_the_card_run_and_agree(
    kind: str, threshold: float | None, family: str, own_checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target: Any = "class" if kind == "pairs" else kind
    folder = tmp_path / "artifact"
    folder.mkdir()
    module = importlib.import_module("compress.export")  # `compress.export` is the verb
    result = module.run(Inputs({"model": own_checkpoint(family, target=target)}), ExportSettings(), folder)
    result["input_spec"] |= {"max_length": 64} | ({} if threshold is None else {"no_answer": True, "null_threshold": threshold})
    files.write_json(folder / artifacts.MANIFEST, result)
    document = {**manifests(kind)["int8"], **result, "task": TASKS[kind]}
    ours, plain, meaning = code(model_card("demo", "int8", {"int8": document}))

    monkeypatch.chdir(folder)
    by_compress: Document = {}
    exec(ours, by_compress)  # noqa: S102 - that the reader can is the point
    by_onnxruntime: Document = {}
    exec(plain + meaning, by_onnxruntime)  # noqa: S102
    assert "compress" not in plain + meaning
    model, answer = load_onnx(folder), by_onnxruntime["answer"]
    given = {"tags": tuple(WORDS), "span": (QUESTION, CONTEXT), "mentions": MENTION_PAIR}
    texts: Any = given.get(kind, (TEXT, OTHER) if len(TASKS[kind]["text"]) == 2 else TEXT)
    expected: Any = model(texts)
    assert by_compress["answer"] == expected
    if target == "class":
        np.testing.assert_allclose(by_onnxruntime["shares"], model.probabilities([texts])[0], atol=1e-5)
        assert answer == expected.label
    elif target == "labels":
        assert answer == [name for name in tiny.LABELS if name in {found.label for found in expected}]
    elif target == "value":
        assert answer == pytest.approx(expected.value, abs=1e-5)
    elif target == "mentions":
        assert answer == expected.label
    elif target == "tags":
        assert answer == [(found.word, found.label) for found in expected]
    else:
        assert answer == expected.text
        assert bool(answer) == (threshold != -1000) or threshold == 0


ALONE = """
import os, re, sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np


class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("compress", "torch", "transformers"):
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Blocked())
for folder in sys.argv[1:]:
    os.chdir(folder)
    blocks = re.findall(r"```python\\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    found = {}
    exec(blocks[1], found)
    logits = np.stack([found["start"], found["end"]], axis=-1) if "start" in found else found["logits"]
    np.save("found.npy", logits)
"""
ALL_KINDS = [
    ("class", "bert"),
    ("class", "distilbert"),
    ("labels", "bert"),
    ("value", "electra"),
    ("tags", "roberta"),
    ("span", "bert"),
    ("mentions", "distilbert"),
]


def test_five_lines_of_the_written_card_need_no_compress(own_checkpoint: Maker, tiny_task: Document, tmp_path: Path) -> None:
    """What `export` and `quantize` write by themselves can be served from its own card, whatever the kind."""
    folders = []
    for number, (kind, family) in enumerate(ALL_KINDS):
        labels = ["animal", "colour", "food", "other"] if kind == "tags" else None
        source = tiny.write_checkpoint(tmp_path / f"model{number}", family, target=kind, labels=labels)
        task = tiny_task if kind == "class" else tiny.write_kind(tmp_path / f"data{number}", kind)
        task |= {"max_length": 128} if kind == "mentions" else {}  # the lines cut the end, compress what is far from the mentions
        folders.append(tmp_path / f"artifact{number}")
        if number % 2:
            compress.quantize(source, task, folders[-1], method="static", calib_samples=40)
        else:
            compress.export(source, folders[-1], task)
    done = subprocess.run([sys.executable, "-c", ALONE, *map(str, folders)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (kind, _), folder in zip(ALL_KINDS, folders, strict=True):
        (_, plain, _) = code((folder / "README.md").read_text(encoding="utf-8"))
        assert len(plain.split("\n\n")[-1].strip().splitlines()) == 5
        model = load_onnx(folder)
        texts: Any = {"tags": tuple(WORDS), "span": (QUESTION, CONTEXT), "mentions": MENTION_PAIR}.get(kind, TEXT)
        data = encode_examples(model.tokenizer, examples_from_texts([texts], model.input_spec), model.input_spec, 0)
        np.testing.assert_allclose(np.load(folder / "found.npy"), model.logits(data.batch([0])), atol=1e-5)


def test_a_card_that_was_edited_stays(own_checkpoint: Maker, tmp_path: Path) -> None:
    made = compress.export(own_checkpoint(), tmp_path / "graph")
    card = tmp_path / "graph" / "README.md"
    assert "Its accuracy was not measured" in card.read_text(encoding="utf-8")
    assert "README.md" not in made["files"]
    card.write_text("license: mine", encoding="utf-8")
    assert compress.export(tmp_path / "model-bert", tmp_path / "graph")["created"] == made["created"]
    assert card.read_text(encoding="utf-8") == "license: mine"


@pytest.mark.parametrize(("precision", "told"), [("int4", "save memory, not time"), ("fp16", "is for GPUs"), ("bf16", "OpenVINO")])
def test_the_card_tells_where_a_precision_ends(precision: str, told: str) -> None:
    validated = {"validation": {"n": 20, "accuracy": 0.5, "float": 0.75, "drop_points": 25.0}}
    card = model_card("demo", "int8", {"int8": manifests("class", precision=precision, metrics=validated)["int8"]})
    assert precision in front(card)["tags"]
    limits = card.split("## Limits")[1]
    assert told in limits
    assert "On validation (n = 20) its accuracy × 100 was 50.00, and 75.00 before" in limits


def test_the_card_says_what_vectors_were_compared_with() -> None:
    validated = {"validation": {"n": 20, "cosine": 0.995, "float": 1.0, "drop_points": 0.5}}
    card = model_card("demo", "int8", {"int8": manifests("class", precision="int8", metrics=validated)["int8"]})
    assert "its vectors had a mean cosine × 100 of 99.50 with those before quantization" in card


def test_the_card_quotes_the_runtime_that_serves() -> None:
    score = {"n": 20, "accuracy": 0.5, "float": 0.75, "drop_points": 25.0}
    metrics = {"validation": score, "validation_openvino": {**score, "accuracy": 0.25}}
    for routes, told in (([{"up_to": None, "runtime": "openvino"}], "was 25.00"), ([], "was 50.00")):
        document = manifests("class", metrics=metrics, runtime={"routes": routes})["int8"]
        assert told in model_card("demo", "int8", {"int8": document}).split("## Limits")[1]


def test_the_input_spec_of_a_card_needs_no_task() -> None:
    from compress.report.card import _input_spec_from

    assert _input_spec_from({"kind": "onnx"}).target == "class"
    assert _input_spec_from({"kind": "onnx", "input_spec": {"target": "span", "max_length": 9}}).max_length == 9


def test_names_of_data_sets_and_metrics_are_text_in_markdown() -> None:
    documents = manifests("class")
    for document in documents.values():
        if document["verb"] == "eval":
            document["task"] = "<script>run()</script>"
    card = model_card("topics", "int8", documents).split("---\n", 2)[-1]
    assert "\\<script\\>" in card
    assert "<script>" not in card
