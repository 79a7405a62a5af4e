"""Load models through transformers: local safetensors only, no code from the model, weights checked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from compress.core import files
from compress.core.errors import ModelError, ResourceError
from compress.models.build import arrange
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.layout import is_graph
from compress.models.published_names import CODE, NOMIC, is_published
from compress.models.sentence_head import EMBEDDING_KEY
from compress.models.types import Config, TransformersModel
from compress.models.weights_file import check_weight_count, check_weights

LABELS = ("id2label", "label2id")  # options that are entries of the config
LOADING_ERRORS = (  # of transformers and safetensors, for any config and weights that they do not expect
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    SafetensorError, StrictDataclassError,
)  # fmt: skip


def quiet_transformers() -> ModuleType:
    """Import transformers and turn its warnings and progress bars off."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def check_folder(folder: Path, needed: str, hint: str) -> Config:
    """Check a model folder before its weights are loaded, and return its config.

    Args:
        folder: of the model.
        needed: what the caller needs, for the message about an ONNX artifact.
        hint: what to give instead of an artifact.

    Raises:
        ModelError: an ONNX artifact, an unsupported model, damaged or unsafe files.
        ResourceError: not enough memory.
    """
    if is_graph(folder):
        raise ModelError(f"{folder} is an ONNX artifact, and this needs {needed}", hint)
    config = read_config(folder)
    check_weights(folder, config)
    check_weight_count(folder, config)
    _check_memory(folder)
    return config


def from_pretrained(loader: Any, folder: Path, **options: object) -> tuple[TransformersModel, list[str]]:
    """Load a model by a class of transformers, in float32, arranged as in memory.

    Args:
        loader: the class, with `from_pretrained`.
        folder: of the model.
        options: passed on.

    Returns:
        The model, and the names of the weights that its files lack or hold in another shape.

    Raises:
        ModelError: transformers cannot load it.
    """
    try:
        model, report = loader.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the caller reports them
            **_own_names(folder, options),
        )
    except LOADING_ERRORS as error:
        raise ModelError(f"{folder} cannot be loaded: {(str(error).splitlines() or ['?'])[0]}") from error
    vars(model.config).pop(CODE, None)
    return arrange(model), [*report["missing_keys"], *(entry[0] for entry in report.get("mismatched_keys", []))]


def _own_names(folder: Path, options: dict[str, object]) -> dict[str, object]:
    """Return what a folder is loaded with if its config has the names of its authors: the config in transformers' names."""
    if not is_published(files.read_json(folder / "config.json")):
        return options
    config = {key: value for key, value in read_config(folder).items() if key not in (CODE, EMBEDDING_KEY)}
    entries = {key: value for key, value in options.items() if key in LABELS}
    others = {key: value for key, value in options.items() if key not in LABELS}
    own = quiet_transformers().AutoConfig.for_model(**config | entries)
    return {**others, "config": own, "key_mapping": {r"^bert\.": f"{family_of(NOMIC).encoder}."}}


def check_finite(model: TransformersModel, folder: Path) -> None:
    """Check that all weights are numbers.

    Raises:
        ModelError: one has infinite or NaN values.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"{folder}: the weight {name} has values that are not finite", "the checkpoint is broken: train it again")


def _check_memory(folder: Path) -> None:
    """Check for twice the weights' size: the file's tensors and the model's."""
    import psutil

    needed = sum(path.stat().st_size for path in folder.glob("*.safetensors")) * 2
    available = psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(f"{folder} needs about {needed >> 20} MiB of memory and {available >> 20} MiB are available")
