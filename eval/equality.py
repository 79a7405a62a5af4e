"""Compare compress with transformers on random (config, tokenizer, text) triples: every family, head and setting.

    python eval/equality.py --models 100 --texts 6

For each random model and text: transformers' own prediction = `compress predict` = `compress eval` = the ONNX artifact = the lines of
its model card. Prints the number of triples, the largest difference of a score, and the triples that differ; exit code 1 if one does.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from harness.random_models import RandomModel, random_text, write_random_model

import compress
from compress.inference.artifact import load_onnx
from compress.inference.decoding import softmax
from compress.inference.predictor import open_predictor
from compress.models.activation import OLD_RECORD, RECORD, value_activation

TOLERANCE = 1e-4  # of scores; values: relative to 1 + |value|
CALLED = re.compile(r"(?<=model\().*?(?=\)(?:  #.*)?$)", re.MULTILINE)
GIVEN = re.compile(r"^(text, other|text|words|question, context) = .*$", re.MULTILINE)
Reading = tuple[Any, float]
"""What a text is (a label, labels, tags, the text of a span, None for a value), and the score or value."""


@dataclass
class Report:
    """What was compared, and what differed."""

    models: int = 0
    triples: int = 0
    largest: float = 0.0
    differences: list[str] = field(default_factory=list)
    families: dict[str, int] = field(default_factory=dict)

    def compare(self, where: str, expected: Reading, found: Reading) -> None:
        """Note the difference of two readings."""
        gap = abs(expected[1] - found[1]) / (1 + abs(expected[1]))
        if expected[0] == found[0] and gap <= TOLERANCE:
            self.largest = max(self.largest, gap)
        else:
            self.differences.append(f"{where}: transformers {expected}, compress {found}")


def compare_model(folder: Path, seed: int, texts: int, report: Report) -> None:
    """Write one random model and compare all ways of using it, on random texts."""
    rng = np.random.default_rng(seed)
    model = write_random_model(folder / "model", rng)
    inputs = _inputs(model, rng, texts)
    expected = _by_transformers(model, inputs)
    kept = [position for position, reading in enumerate(expected) if reading is not None]
    inputs, expected = [inputs[position] for position in kept], [expected[position] for position in kept]
    where = f"seed {seed} ({model.family}, {model.target}{', pairs' if model.pairs else ''})"
    task = _task(folder, model, inputs, expected)
    compress.export(model.folder, folder / "graph", task)
    artifact, card = load_onnx(folder / "graph"), _card(folder / "graph")
    ways = {"predict": open_predictor(model.folder)(inputs), "artifact": artifact(inputs)}
    for way, outputs in ways.items():
        for text, right, output in zip(inputs, expected, outputs, strict=True):
            report.compare(f"{where}, {way}, {text!r}", right, _reading(model, output))
    for text, right in zip(inputs, expected, strict=True):
        report.compare(f"{where}, card, {text!r}", right, _by_card(card, model, text, folder / "graph", right))
    _compare_scores(where, model, task, folder / "graph", report)
    report.models += 1
    report.triples += len(inputs)
    name = f"{model.family} {model.target}"
    report.families[name] = report.families.get(name, 0) + len(inputs)


def _inputs(model: RandomModel, rng: np.random.Generator, count: int) -> list[Any]:
    if model.target == "tags":
        return [tuple(random_text(rng, 8).split()) for _ in range(count)]
    if model.target == "span":
        return [(random_text(rng, 3), random_text(rng, 8)) for _ in range(count)]
    return [(random_text(rng), random_text(rng)) if model.pairs else random_text(rng) for _ in range(count)]


def _by_transformers(model: RandomModel, inputs: list[Any]) -> list[Reading | None]:
    """Return transformers' readings; None for an input that compress would split into windows, or without an answer."""
    import torch
    import transformers

    heads = {"tags": "TokenClassification", "span": "QuestionAnswering"}
    folder, head = str(model.folder), heads.get(model.target, "SequenceClassification")
    opened: Any = getattr(transformers, f"AutoModelFor{head}").from_pretrained(folder).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    if model.target in ("class", "labels", "value"):
        return [_by_pipeline(model, opened, tokenizer, text) for text in inputs]
    if model.target == "tags":
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_for_words(model))
    readings: list[Reading | None] = []
    for text in inputs:
        words = {"is_split_into_words": True} if model.target == "tags" else {}
        given = tokenizer(*([list(text)] if words else text), return_tensors="pt", **words)
        if given["input_ids"].shape[1] > model.limit:
            readings.append(None)
            continue
        with torch.no_grad():
            outputs = opened(**given)
        readings.append(_tags(opened, outputs, given, text) if model.target == "tags" else _span(outputs, given, text))
    return readings


def _for_words(model: RandomModel) -> dict[str, Any]:
    """Return the option that RoBERTa's tokenizer needs for words."""
    return {"add_prefix_space": True} if model.tokenizer_config.get("tokenizer_class") == "RobertaTokenizer" else {}


def _by_pipeline(model: RandomModel, opened: Any, tokenizer: Any, text: Any) -> Reading:
    """Return the reading of transformers' pipeline, with the activation that sentence-transformers records."""
    import transformers

    config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    recorded = any(key in config for key in (RECORD, OLD_RECORD))
    options = {"function_to_apply": value_activation(config)} if recorded else {}
    pipeline: Any = transformers.pipeline("text-classification", model=opened, tokenizer=tokenizer, device="cpu")
    given = {"text": text[0], "text_pair": text[1]} if model.pairs else {"text": text}
    scores = pipeline(given, top_k=None, truncation=True, max_length=model.limit, **options)
    if model.target == "value":
        return None, scores[0]["score"]
    if model.target == "labels":
        chosen = [entry for entry in scores if entry["score"] > 0.5]
        return tuple(sorted(entry["label"] for entry in chosen)), chosen[0]["score"] if chosen else 0.0
    return scores[0]["label"], scores[0]["score"]


def _tags(opened: Any, outputs: Any, given: Any, words: tuple[str, ...]) -> Reading:
    """Return the tag of each word's first token, and the mean probability."""
    shares, first = softmax(outputs.logits[0].numpy()), {}
    for position, word in enumerate(given.word_ids()):
        if word is not None:
            first.setdefault(word, position)
    tags = tuple(opened.config.id2label[int(shares[first[word]].argmax())] if word in first else "" for word in range(len(words)))
    return tags, float(np.mean([shares[position].max() for position in first.values()] or [0.0]))


def _span(outputs: Any, given: Any, text: tuple[str, str]) -> Reading | None:
    """Return the place of the best span of at most 30 tokens of the context; its score is not compared."""
    start, end = outputs.start_logits[0].numpy(), outputs.end_logits[0].numpy()
    inside = [position for position, sequence in enumerate(given.encodings[0].sequence_ids) if sequence == 1]
    spans = [(start[a] + end[b], a, b) for a in inside for b in inside if 0 <= b - a < 30]
    if not spans:
        return None
    _, first, last = max(spans)
    offsets = given.encodings[0].offsets
    found = text[1][offsets[first][0] : offsets[last][1]].strip()
    return (found, 0.0) if found else None


def _reading(model: RandomModel, output: Any) -> Reading:
    if model.target == "value":
        return None, output.value
    if model.target == "labels":
        return tuple(sorted(entry.label for entry in output)), output[0].score if output else 0.0
    if model.target == "tags":
        return tuple(entry.label for entry in output), float(np.mean([entry.score for entry in output if entry.label] or [0.0]))
    if model.target == "span":
        return output.text.strip(), 0.0
    return output.label, output.score


def _task(folder: Path, model: RandomModel, inputs: list[Any], expected: list[Any]) -> dict[str, Any]:
    """Write a task whose labels are transformers' predictions."""
    names = {"tags": ["tokens"], "span": ["question", "context"]}.get(model.target, ["one", "two"] if model.pairs else ["one"])
    rows = []
    for text, (label, score) in zip(inputs, expected, strict=True):
        values = [list(text)] if model.target == "tags" else list(text) if isinstance(text, tuple) else [text]
        row = dict(zip(names, values, strict=True))
        if model.target == "span":
            row["answers"] = {"text": [label], "answer_start": [max(0, text[1].find(label))]}
        else:
            tags = [tag or "one" for tag in label or ()]
            row["label"] = {"value": score, "labels": list(label or ()), "tags": tags}.get(model.target, label)
        rows.append(row)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    kind = {"value": "regression", "tags": "token-classification", "span": "question-answering"}.get(model.target, "text-classification")
    task: dict[str, Any] = {"name": "random", "kind": kind, "text": names, "max_length": model.limit, "validation": str(path)}
    if model.target in ("class", "labels", "tags"):
        config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
        task["labels"] = list(config["id2label"].values())
    return task | ({"multi_label": True} if model.target == "labels" else {})


def _compare_scores(where: str, model: RandomModel, task: dict[str, Any], graph: Path, report: Report) -> None:
    """Check that `eval` scores 1 on labels that are transformers' own predictions."""
    metric = {"labels": "micro_f1", "value": "pearson", "tags": "word_f1", "span": "exact_match"}.get(model.target, "accuracy")
    for result in compress.evaluate([model.folder, graph], task | {"metrics": [metric]})["results"]:
        score = result["metrics"][metric]
        if np.isfinite(score):  # NaN: no label at all, or one value
            report.compare(f"{where}, eval of {Path(result['model']).name}, {metric}", (None, 1.0), (None, score))


def _card(graph: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (graph / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def _by_card(card: list[str], model: RandomModel, text: Any, graph: Path, right: Reading) -> Reading:
    """Run the card's lines without compress on another input than their example."""
    given = repr(list(text) if model.target == "tags" else text)
    code = GIVEN.sub(lambda match: f"{match[1]} = {given}", card[1])
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(graph)
    try:
        with redirect_stdout(io.StringIO()):
            exec(code + card[2], names)  # noqa: S102 (the card that compress wrote)
    finally:
        os.chdir(before)
    answer = names["answer"]
    if model.target == "value":
        return None, float(answer)
    if model.target == "labels":
        return tuple(sorted(answer)), float(names["shares"].max()) if answer else 0.0
    if model.target == "tags":  # words without a token have no entry; the card prints tags alone
        tags = dict(zip([number for number, tag in enumerate(right[0]) if tag], [tag for _, tag in answer], strict=False))
        return tuple(tags.get(number, "") for number in range(len(text))), right[1]
    if model.target == "span":
        return str(answer).strip(), 0.0
    return answer, float(names["shares"].max())


def main() -> int:
    """Compare, print the report as JSON, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100, help="random configs with their tokenizers (default 100)")
    parser.add_argument("--texts", type=int, default=6, help="of each (default 6)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = Report()
    for seed in range(options.seed, options.seed + options.models):
        folder = Path(tempfile.mkdtemp())
        try:
            with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
                compare_model(folder, seed, options.texts, report)
        except Exception as error:
            report.differences.append(f"seed {seed}: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(folder)
    print(
        json.dumps(
            {**vars(report), "differences": report.differences[:40], "different": len(report.differences)}, indent=2, ensure_ascii=False
        )
    )
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
