"""Optional packages: where they are installed, or how to install them. Nothing is imported here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from compress.core.errors import ResourceError

DEMO = "pip install 'bert-compress[demo]'"


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def demo_package(module: str, purpose: str) -> Path:
    """Return the folder of a package of the extra `demo`, without importing it.

    Args:
        module: the package's import name.
        purpose: what needs it, for the message.

    Raises:
        ResourceError: it is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ResourceError(f"{purpose} needs the package {module}, which is not installed", DEMO)
    return Path(spec.submodule_search_locations[0])
