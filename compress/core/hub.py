"""The Hugging Face hub: one function that returns a local folder, from the cache alone when offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from compress.core.errors import DataError, ModelError, ResourceError

_offline = False


def set_offline(offline: bool) -> None:
    """Forbid (or allow) the network for this process; `HF_HUB_OFFLINE=1` forbids it too."""
    global _offline
    _offline = offline


def is_offline() -> bool:
    """Return whether the network is forbidden."""
    return _offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}


def snapshot(repo: str, kind: Literal["model", "dataset"], revision: str | None, patterns: list[str]) -> Path:
    """Return the folder of a repository's snapshot in the hub client's cache, downloading what matches `patterns`.

    Raises:
        ResourceError: offline and not in the cache, or the hub cannot be reached.
        ModelError, DataError: the repository or revision does not exist, or needs permission.
    """
    from huggingface_hub import constants, errors, snapshot_download

    named = f"{kind} {repo}" + (f"@{revision}" if revision else "")
    try:
        folder = snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            allow_patterns=patterns,
            local_files_only=is_offline(),
            cache_dir=os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE,
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        wrong = ModelError if kind == "model" else DataError
        raise wrong(
            f"the hub has no {named}, or it needs permission",
            "check the name; for a private or gated repository run 'hf auth login'",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if is_offline():
            raise ResourceError(
                f"offline, and the {named} is not in the cache ({constants.HF_HUB_CACHE})",
                f"drop --offline, or fetch it where there is a network: hf download --repo-type {kind} {repo}",
            ) from error
        raise ResourceError(f"cannot reach the hub for the {named}", "check the network, or give a local folder") from error
    except (OSError, errors.HfHubHTTPError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResourceError(f"cannot get the {named} from the hub: {first}", "check the network, or give a local folder") from error
    return Path(folder)
