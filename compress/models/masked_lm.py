"""Load a masked language model, such as one that proposes words for data augmentation."""

from __future__ import annotations

from pathlib import Path

from compress.core.errors import ModelError
from compress.models.pretrained import check_finite, check_folder, from_pretrained, quiet_transformers
from compress.models.shape import CONFIG_KEY, describe_entry
from compress.models.types import TransformersModel

HINT = "give a pre-trained model, such as google-bert/bert-base-uncased"


def load_masked_lm(folder: Path) -> TransformersModel:
    """Load a dense masked language model, in evaluation mode on the CPU.

    Raises:
        ModelError: an unsupported or compressed model, damaged or unsafe files, or no masked-language-model head.
        ResourceError: not enough memory.
    """
    config = check_folder(folder, "a masked language model", HINT)
    if CONFIG_KEY in config:
        raise ModelError(f"{folder} is {describe_entry(config[CONFIG_KEY])}, and this needs a masked language model", HINT)
    model, missing = from_pretrained(quiet_transformers().AutoModelForMaskedLM, folder)
    if missing:
        raise ModelError(f"{folder} is not a masked language model: it lacks the weight {missing[0]}", HINT)
    check_finite(model, folder)
    return model.eval()
