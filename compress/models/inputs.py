"""Prepare inputs for a model: tokenize examples with its tokenizer, and read the input spec that its folder records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from compress.core.errors import ModelError
from compress.data.encoded import Encoded
from compress.data.encoding import encode_examples
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.data.sentence_texts import single_texts
from compress.models.activation import value_activation
from compress.models.config import longest_input, read_config, serving_length
from compress.models.config_heads import agreed_target
from compress.models.sentence_head import sentence_head
from compress.models.tokenizer import load_tokenizer, pad_id
from compress.models.types import Config

COUNTS = {"max_length": (1, 1_000_000), "stride": (0, 1_000_000), "max_answer": (1, 1_000_000)}  # keys of an input spec
MAX_TOKENS = 50_000  # of calibration data; more would cost time and change little


def encode_for(folder: Path, examples: Examples, input_spec: InputSpec, prompted: bool = False) -> Encoded:
    """Tokenize examples with the tokenizer of a model folder, cut to the length that the task and the model's positions allow.

    An embedder gets every text of them as an input of its own, after its prompt; see `prompts_of`.

    Args:
        folder: of the model.
        examples: to tokenize.
        input_spec: of the task.
        prompted: the texts have their prompts already.

    Raises:
        ModelError: the folder has no usable tokenizer, or it belongs to another model.
    """
    config = read_config(folder)
    limited = replace(input_spec, max_length=min(input_spec.max_length, longest_input(config, input_spec.target)))
    if input_spec.target == "vector":
        examples = single_texts(examples, ("", "") if prompted else prompts_of(config, input_spec))
    return encode_examples(load_tokenizer(folder, config["vocab_size"]), examples, limited, pad_id(folder))


def prompts_of(config: Config, input_spec: InputSpec) -> tuple[str, str]:
    """Return what an embedder puts before the first text of an example, and before the second: the prompts that `input_spec` names.

    Without names, or if the folder has none of them, it is the prompt of every text, if the folder has one.
    """
    head = sentence_head(config)
    if head is None:
        return "", ""
    names = input_spec.prompts or ((),)
    return head.prompt_for(*names[0]), head.prompt_for(*names[-1])


def input_spec_of(config: Config, manifest: Mapping[str, object] | None) -> InputSpec:
    """Return the input spec of a model folder: what its manifest records, and what its config says for the rest.

    Args:
        config: the folder's `config.json`.
        manifest: its `compress.json`; None: it has none.

    Raises:
        ModelError: the manifest records something that cannot be.
    """
    manifest = manifest or {}
    recorded = manifest.get("input_spec") or manifest.get("reading") or manifest.get("task") or {}  # "reading": older artifacts
    known = _checked(recorded, manifest.get("max_length"))
    recorded_target = known.get("target")
    target = agreed_target(config, recorded_target) or ("vector" if recorded_target == "vector" else "class")
    known["max_length"] = serving_length(config, target, known.get("max_length"))
    return InputSpec(**{**known, "target": target, "activation": value_activation(config), "prompts": ()})


def _checked(recorded: object, max_length: object) -> dict[str, Any]:
    """Return what a manifest records of the input spec, if every value is of its type and within its bounds.

    Raises:
        ModelError: one is not; the message names the key.
    """
    if not isinstance(recorded, Mapping):
        raise ModelError("compress.json is malformed: its input spec is no mapping", "write the artifact again")
    values = {"max_length": max_length, **{key: value for key, value in recorded.items() if value is not None}}
    known = {field.name: values[field.name] for field in fields(InputSpec) if values.get(field.name) is not None}
    for key, value in known.items():
        low, high = COUNTS.get(key, (0, 0))
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 else None
        valid = {
            "target": isinstance(value, str) and value in get_args(Target),
            "no_answer": isinstance(value, bool),
            "null_threshold": number is not None and math.isfinite(number),
            **dict.fromkeys(COUNTS, number is not None and isinstance(value, int) and low <= value <= high),
        }
        if not valid.get(key, isinstance(value, str)):
            raise ModelError(f"compress.json is malformed: {key} is {value!r}", "write the artifact again")
    return known


def encode_calibration(
    folder: Path, examples: Examples, input_spec: InputSpec, count: int, seed: int, max_tokens: int = MAX_TOKENS
) -> Encoded:
    """Encode `count` random examples for the model in `folder`, or fewer if they exceed `max_tokens` tokens together."""
    data = encode_for(folder, calibration_examples(examples, count, seed), input_spec)
    tokens = int(data.lengths.sum())
    if tokens <= max_tokens:
        return data
    fewer = max(2, round(min(count, len(examples)) * max_tokens / tokens))
    return encode_for(folder, calibration_examples(examples, fewer, seed), input_spec)


def calibration_examples(examples: Examples, count: int, seed: int) -> Examples:
    """Draw `count` examples without replacement, in the order of the data; all if there are no more."""
    if len(examples) <= count:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False)))
