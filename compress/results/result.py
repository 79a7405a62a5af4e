"""What a function of the Python API returns: a document whose keys are attributes, too."""

from __future__ import annotations

import json
from typing import Any

from compress.core import console


class Result(dict[str, Any]):
    """A JSON document with its keys as attributes: `result.metrics` is `result["metrics"]`.

    It is a dictionary, so `json.dumps(result)` works; `to_json` also replaces numbers that are not finite by null.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no '{name}'; it has: {', '.join(self)}") from None

    def __dir__(self) -> list[str]:
        """Return the keys, too, for completion in a notebook."""
        return sorted({*super().__dir__(), *self})

    def to_json(self) -> str:
        """Return the document as JSON text."""
        return json.dumps(console.finite(self), indent=2, ensure_ascii=False, default=str)
