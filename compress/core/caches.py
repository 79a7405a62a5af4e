"""Where measurements and downloads that can be repeated are cached."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder for what can be made again: `$COMPRESS_CACHE`, else `~/.cache/compress`."""
    explicit = os.environ.get("COMPRESS_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compress"
