"""Check safetensors files before anything is loaded or allocated. No torch in this module."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from compress.core import files
from compress.core.errors import ModelError
from compress.models.layout import INDEX, WEIGHTS
from compress.models.pickled_weights import missing_weights
from compress.models.shape import shape_of_config
from compress.models.types import Config

MAX_HEADER = 100 << 20  # bytes


def check_weights(folder: Path, config: Config) -> None:
    """Check that the weights are safetensors, and that every file is exactly as long as its header says.

    Raises:
        ModelError: pickled weights only, no weights, or a damaged file.
    """
    paths = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else _shards(folder)
    if not paths:
        raise missing_weights(folder, config)
    for path in paths:
        _check_header(path)


def check_weight_count(folder: Path, config: Config) -> None:
    """Check that the files are large enough for the weights that the config describes.

    Raises:
        ModelError: they hold fewer bytes than there are weights.
    """
    shape = shape_of_config(config)
    width = shape.embedding[0] if shape.embedding else config.get("embedding_size", shape.hidden)
    described = shape.params() + config["vocab_size"] * width
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if described > held:
        raise ModelError(
            f"{folder}: config.json describes {described:,} weights and the files hold {held:,} bytes",
            "config.json belongs to another model",
        )


def _shards(folder: Path) -> list[Path]:
    """Return the files that the index names; none without an index."""
    if not (folder / INDEX).is_file():
        return []
    try:
        names = sorted(set(files.read_json(folder / INDEX)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{folder / INDEX} is damaged") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder / INDEX} names the file {name!r}, which does not exist")
    return [folder / name for name in names]


def _check_header(path: Path) -> None:
    """Check the header: a little-endian 64-bit length, then JSON with the offsets of each tensor."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ModelError(f"{path} is damaged: its header does not fit the file", "copy or download it again")
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] + 0 for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is damaged: its header is not readable", "copy or download it again") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ModelError(
            f"{path} is damaged: {size} bytes where its header announces {expected}",
            "it was cut short or changed: copy or download it again",
        )
