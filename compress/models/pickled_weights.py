"""What to type when a model has its weights as a pickle only: pickles can run code when they are loaded, so compress does not read them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from compress.core.errors import ModelError
from compress.models.family import FAMILIES, HEAD_CLASSES
from compress.models.types import Config

READABLE = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # what transformers loads and saves again
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "tokenizer_config.json")
_HUB_FOLDER = "models--"


def missing_weights(folder: Path, config: Config) -> ModelError:
    """Return the error for a folder without safetensors, with a command that converts what it has, head and tokenizer included."""
    pickles = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.ckpt")])
    repo = _hub_name(folder)
    if not pickles and repo is None:
        return ModelError(f"{folder} has no model.safetensors")
    if repo is not None and not pickles:
        return ModelError(f"{repo} has no safetensors on the Hub", _hint(repo, config))
    problem = f"{folder} has only pickled weights ({pickles[0].name}), which can run code when loaded"
    if not any((folder / name).is_file() for name in READABLE):
        return ModelError(problem, "save the model in safetensors, where you trust it, with the program that wrote it")
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return ModelError(problem, _hint(str(folder), config, has_tokenizer))


def _hint(source: str, config: Config, has_tokenizer: bool = True) -> str:
    """Return the shell command that saves a model and its tokenizer again, in safetensors, and what it writes."""
    name, target = _class_of(config), f"{Path(source).name}-safetensors"
    code = [f"from transformers import AutoTokenizer, {name}" if has_tokenizer else f"from transformers import {name}"]
    for loader in [name, *(["AutoTokenizer"] if has_tokenizer else [])]:
        code.append(f"{loader}.from_pretrained({json.dumps(source)}).save_pretrained({json.dumps(target)})")
    return f"if you trust it, write it again and use the folder {target}: python -c {shlex.quote('; '.join(code))}"


def _class_of(config: Config) -> str:
    """Return the class in transformers that loads a model with its head: as recorded, else by its labels."""
    known = {family.prefix + suffix for family in FAMILIES.values() for suffix in (*HEAD_CLASSES.values(), "ForMaskedLM", "Model")}
    recorded = [name for name in config.get("architectures") or [] if name in known]
    labelled = config.get("id2label") or config.get("num_labels") or config.get("problem_type")
    return recorded[0] if recorded else "AutoModelForSequenceClassification" if labelled else "AutoModel"


def _hub_name(folder: Path) -> str | None:
    """Return the `owner/name` of a folder in the Hub's cache; None for other folders."""
    names = [part for part in folder.parts if part.startswith(_HUB_FOLDER)]
    return names[-1].removeprefix(_HUB_FOLDER).replace("--", "/", 1) if names and "snapshots" in folder.parts else None
