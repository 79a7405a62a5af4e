"""Inputs of a model folder: the input spec that it records, and texts for calibration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core.errors import ModelError
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.spec import TaskSpec
from compress.models.config import read_config
from compress.models.config_heads import agreed_target
from compress.models.inputs import calibration_examples, encode_calibration, encode_for, input_spec_of
from compress.models.tokenizer import load_tokenizer
from tests import tiny

CLASSIFIER = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}


def config(**fields: Any) -> dict[str, Any]:
    return {**CLASSIFIER, "max_position_embeddings": 64, **fields}


@pytest.mark.parametrize(
    ("problem_type", "target", "agreed"),
    [(None, "labels", "labels"), (None, "class", "class"), (None, None, "class"), ("single_label_classification", "labels", "class")],
)
def test_multi_label_models_without_a_problem_type_follow_the_task(problem_type: str | None, target: Any, agreed: str) -> None:
    assert agreed_target(config(problem_type=problem_type), target) == agreed


def test_the_manifest_is_read_first_and_the_positions_bound_the_length() -> None:
    assert input_spec_of(config(), None) == InputSpec("class", max_length=64)
    assert input_spec_of(config(), {"input_spec": {"target": "class", "max_length": 32, "stride": 8}}) == InputSpec("class", 32, 8)
    assert input_spec_of(config(), {"task": {"max_length": 512}}).max_length == 64
    assert input_spec_of(config(), {"reading": {"target": "labels", "max_length": 16}}) == InputSpec("labels", 16)


def test_the_corpus_as_training_texts_gets_the_prompt_of_documents(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model")
    prompts = {"query": "we ", "passage": "you ", "other": "they "}
    settings = {"prompts": prompts, "default_prompt_name": "other"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    corpus, texts = (
        TaskSpec.model_validate({"kind": "sentence-embedding", **fields})
        for fields in ({"beir": "x"}, {"text": ["text"], "train": "x.jsonl"})
    )
    examples = Examples([("red dog",)], np.zeros(1))
    for spec, expected in ((corpus, "you red dog"), (texts, "they red dog")):
        (ids,) = encode_for(folder, examples, spec.input_spec).input_ids
        assert ids.tolist() == load_tokenizer(folder).encode(expected).ids
    assert input_spec_of(read_config(folder), {"input_spec": {"target": "vector", "prompts": "x"}}).prompts == ()


def test_calibration_examples_are_drawn_without_replacement_and_in_order() -> None:
    examples = Examples([(f"text {number}",) for number in range(50)], np.arange(50))
    drawn = calibration_examples(examples, 20, seed=3)
    assert (np.diff(drawn.labels) > 0).all()
    assert drawn.texts == calibration_examples(examples, 20, seed=3).texts != calibration_examples(examples, 20, seed=4).texts
    assert calibration_examples(examples, 50, seed=3) is examples


def test_calibration_takes_fewer_of_long_texts(checkpoint: Callable[..., Path]) -> None:
    examples = Examples([("dog " * 100,)] * 40, np.zeros(40, dtype=int))
    data = encode_calibration(checkpoint(), examples, InputSpec(max_length=20), 30, seed=0, max_tokens=100)
    assert int(data.lengths.sum()) == 100 == 5 * min(20, tiny.POSITIONS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_length", -5),
        ("max_length", 2**80),
        ("max_length", "128"),
        ("stride", -1),
        ("max_answer", 0),
        ("no_answer", "yes"),
        ("null_threshold", float("nan")),
        ("target", "x"),
        ("target", ["class"]),
    ],
)
def test_a_manifest_that_records_nonsense_is_refused(key: str, value: object, checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=key):
        input_spec_of(read_config(checkpoint()), {"input_spec": {key: value}})
    with pytest.raises(ModelError):
        input_spec_of(read_config(checkpoint()), {"input_spec": [1]})


def test_a_number_of_400_digits_is_refused() -> None:
    with pytest.raises(ModelError, match="max_length"):
        input_spec_of(config(), {"input_spec": {"target": "class", "max_length": 10**400}})
