"""Free disk space."""

from __future__ import annotations

import shutil
from pathlib import Path

from compress.core.errors import ResourceError

RESERVE_BYTES = 64 << 20  # never filled by a write


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that holds `path`."""
    return shutil.disk_usage(path).free


def free_space(target: Path) -> int:
    """Return how many bytes may be written below a path that need not exist yet: the free bytes less a reserve."""
    existing = next(path for path in (target, *target.parents) if path.exists())
    return free_bytes(existing) - RESERVE_BYTES


def check_space(target: Path, needed: int, elsewhere: str = "choose a folder on another disk with -o") -> None:
    """Refuse to start writing `needed` bytes if they do not fit; `elsewhere` is the hint on how to choose another place.

    Raises:
        ResourceError: less than `needed` plus a reserve is free.
    """
    room = free_space(target)
    if room < needed:
        raise ResourceError(
            f"{target} needs about {needed / 2**20:.1f} MiB and a reserve of {RESERVE_BYTES >> 20} MiB, and only "
            f"{(room + RESERVE_BYTES) / 2**20:.1f} MiB are free",
            f"free some space or {elsewhere}",
        )
