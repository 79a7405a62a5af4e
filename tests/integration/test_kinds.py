"""The other kinds of task, every step by its command in this process: layers of the real MiniLM, real sentences, readable answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compress.cli.main import cli
from compress.data import bbc_news

NUMBER = re.compile(r"\d+")
FLAGS = {
    "labels": ["--text", "text", "--multi-label"],
    "value": ["--text", "text", "--kind", "regression"],
    "tags": ["--text", "tokens", "--label", "tags", "--kind", "token-classification"],
    "span": ["--text", "question", "--text", "context", "--kind", "question-answering"],
}
MAIN = {"labels": "micro_f1", "value": "spearman", "tags": "accuracy", "span": "squad_f1"}


def tag(word: str) -> str:
    """What kind of word this is, to the eye."""
    return "NUMBER" if word.isdigit() else "NAME" if word[:1].isupper() else "WORD" if word.isalpha() else "MARK"


def rows(target: str, count: int) -> list[dict[str, Any]]:
    """Sentences of the BBC's articles with answers that are in the text itself."""
    texts = [row["text"][:160] for row in bbc_news.read_splits()["train"] if NUMBER.search(row["text"][:160])]
    found = []
    for text in texts[:count]:
        words = re.findall(r"\w+|[^\w\s]", text)
        number = NUMBER.search(text)
        assert number is not None
        labels = [
            name for name, there in (("money", "£" in text or "$" in text), ("quote", '"' in text), ("percent", "%" in text)) if there
        ]
        found.append(
            {
                "labels": {"text": text, "label": labels},
                "value": {"text": text, "label": sum(word.isdigit() for word in words)},
                "tags": {"tokens": words, "tags": [tag(word) for word in words]},
                "span": {
                    "question": "Which number?",
                    "context": text,
                    "answers": {"text": [number.group()], "answer_start": [number.start()]},
                },
            }[target]
        )
    return found


@pytest.fixture(params=list(FLAGS))
def target(request: pytest.FixtureRequest) -> str:
    """Every target but one class."""
    return request.param


def compress(*arguments: str) -> Any:
    """Run a command; returns the document that it prints."""
    outcome = CliRunner().invoke(cli, ["--json", *arguments])
    assert outcome.exit_code == 0, f"{arguments}: {outcome.stderr}"
    return json.loads(outcome.stdout)


def test_the_way_from_text_to_answer(target: str, small_minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tune, quantize, evaluate both, write the errors, predict: every number in bounds, every answer well-formed."""
    monkeypatch.chdir(tmp_path)
    everything = rows(target, 120)
    for name, part in {"train": everything[:90], "validation": everything[90:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    files = ["--train", str(tmp_path / "train.jsonl"), "--validation", str(tmp_path / "validation.jsonl")]
    task = [*files, *FLAGS[target], "--max-length", "48"]
    training = ["--epochs", "4", "--lr", "1e-3", "--batch-size", "8", "--precision", "fp32"]
    tuned = compress("finetune", str(small_minilm), *task, *training, "-o", "t")
    small = compress("quantize", "t", *task, "--max-drop", "20", "-o", "q")
    if target != "value":  # int8 moves a value by more than the one percent that counts as equal
        assert small["verification"]["agreement"] > 0.8
    found = compress("eval", "t", "q", *task, "--errors", "errors.jsonl")
    scores = [entry["metrics"][MAIN[target]] for entry in found["results"]]
    assert scores[0] == pytest.approx(tuned["metrics"]["validation"][MAIN[target]], abs=1e-6)
    assert scores[1] == pytest.approx(scores[0], abs=0.2)
    assert scores[0] > {"labels": 0.25, "value": 0.25, "tags": 0.9, "span": 0.4}[target]
    assert len((tmp_path / "errors.jsonl").read_text(encoding="utf-8").splitlines()) == found["errors"]["n"]
    texts = ["--pair", "Which number?", "Sales rose by 12 in May"] if target == "span" else ["Sales rose by 12 in May"]
    for model in ("t", "q"):
        (answer,) = compress("predict", model, *texts)["predictions"]
        assert set(answer) >= {"labels": {"labels"}, "value": {"value"}, "tags": {"words"}, "span": {"answer", "start"}}[target]
    if target == "tags":
        told = [(entry["word"], entry["label"]) for entry in answer["words"]]
        assert [word for word, _ in told] == ["Sales", "rose", "by", "12", "in", "May"]
        assert dict(told)["12"] == "NUMBER"
