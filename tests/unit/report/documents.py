"""Documents of runs written by hand, and a parser of the report page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from compress import report

Document = dict[str, Any]
DENSE = [{"heads": 12, "ffn": 1536}] * 6
CUT = [{"heads": 12 - 2 * number, "ffn": 1536 - 200 * number} for number in range(6)]
COMMON = {"schema": 1, "seconds": 12.5, "seed": 17, "digest": "d1" * 32, "task": {"name": "bbc-news", "metrics": ["accuracy"]}}
TEACHER = {**COMMON, "verb": "finetune", "kind": "checkpoint", "inputs": {"model": "0"}, "params": 22_700_000,
           "metrics": {"validation": {"n": 417, "accuracy": 0.96}}}  # fmt: skip
SLIM = {
    **COMMON,
    "verb": "prune",
    "kind": "checkpoint",
    "inputs": {"teacher": "0"},
    "params": 17_600_000,
    "layers": CUT,
    "layers_before": DENSE,
}
GRAPH = {**COMMON, "verb": "export", "kind": "onnx", "precision": "fp32", "inputs": {"slim": "0"}, "layers": CUT,
         "verification": {"max_abs": 1.4e-06, "against": "PyTorch"}}  # fmt: skip
INT8 = {**GRAPH, "verb": "quantize", "precision": "int8", "inputs": {"graph": "0"}}


def evaluation(names: list[str], split: str = "test", n: int = 425) -> Document:
    results: list[Document] = []
    for number, name in enumerate(names):
        entry = {
            "model": name,
            "metrics": {"accuracy": 0.96 - 0.004 * number},
            "ci95": {"accuracy": [0.94 - 0.004 * number, 0.975 - 0.004 * number]},
        }
        compared = {"metric": "accuracy", "delta": -0.004 * number, "ci95": [-0.012, 0.005], "p_value": 0.6}
        results.append(entry if number == 0 else {**entry, "vs_first": compared})
    return {
        **COMMON,
        "verb": "eval",
        "kind": "measurement",
        "inputs": dict.fromkeys(names, "0"),
        "task": "bbc-news",
        "split": split,
        "n": n,
        "main_metric": "accuracy",
        "results": results,
    }


def bench(names: list[str], onnx: str | None = None, lengths: tuple[int, ...] = (32, 128)) -> Document:
    def entry(number: int, name: str, length: int) -> Document:
        ratio = 1 + 1.7 * number
        compared = {"vs": onnx, "ratio": ratio / 2, "ci95": [ratio / 2 - 0.1, ratio / 2 + 0.1]} if onnx else None
        return {
            "model": name,
            "runtime": "pytorch" if number < 2 else "onnxruntime",
            "device": "cpu",
            "precision": "int8" if name == "int8" else "fp32",
            "threads": 1,
            "batch_size": 1,
            "seq_len": length,
            "rounds": 40,
            "latency_ms": {"p50": length / 2 / ratio, "p90": length / 1.8 / ratio, "p99": None, "mean": length / 2 / ratio},
            "throughput_per_s": 2000 * ratio / length,
            "size_mb": 90 / (1 + number),
            "peak_rss_mb": None,
            "speedup": {"vs": names[0], "ratio": ratio, "ci95": [ratio - 0.1, ratio + 0.1] if number else [1, 1]},
            "speedup_vs_onnx": compared,
        }

    results = [entry(number, name, length) for length in lengths for number, name in enumerate(names)]
    control = [{"threads": 1, "batch_size": 1, "seq_len": length, "ratio": 1.001, "ci95": [0.99, 1.012]} for length in lengths]
    return {**COMMON, "verb": "bench", "kind": "measurement", "inputs": dict.fromkeys(names, "0"), "results": results, "control": control}


def write_run(folder: Path, stages: dict[str, Document], gates: list[Document] | None = None, name: str = "demo") -> Path:
    entries = {}
    for number, (stage, document) in enumerate(stages.items(), 1):
        path = folder / "stages" / f"{number:02d}-{stage}"
        path.mkdir(parents=True)
        (path / "compress.json").write_text(json.dumps(document), encoding="utf-8")
        entries[stage] = {"folder": f"stages/{path.name}", **{key: document[key] for key in ("verb", "digest", "seconds")}}
    manifest = {
        "schema": 1,
        "recipe": name,
        "created": "2026-01-02T03:04:05+00:00",
        "git_commit": "c0ffee" * 6,
        "seconds": 321.0,
        "stages_run": len(stages),
        "machine": {"cpu": "A Processor", "instruction_sets": ["AVX2", "AVX512-VNNI"], "cores": 2, "governor": None, "torch": "2.13.0"},
        "model": {"reference": "builtin:minilm-l6", "digest": "ab" * 32},
        "data": {"task": "bbc-news", "fingerprint": "cd" * 32},
        "seeds": dict.fromkeys(stages, 17),
        "stages": entries,
        "gates": gates or [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "recipe.resolved.yaml").write_text("schema: 1\nname: demo\n", encoding="utf-8")
    return folder


class Readable(HTMLParser):
    """The text that a reader without JavaScript sees, and every tag and attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.hidden = False
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.hidden = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)


def read(folder: Path) -> tuple[str, Readable]:
    path = report.write(folder)
    assert path == folder / "report.html"
    page = path.read_text(encoding="utf-8")
    return page, Readable(page)


def charts(page: str) -> set[str]:
    return set(re.findall(r'<div id="chart-(\w+)"', page))


def with_own_lengths(stage: Document, mean: int = 41) -> Document:
    """Add a cell on the task's own texts to a benchmark."""
    first = stage["results"][: len({entry["model"] for entry in stage["results"]})]
    return stage | {"results": [*stage["results"], *({**entry, "seq_len": mean, "lengths": "task", "tokenized": True} for entry in first)]}
