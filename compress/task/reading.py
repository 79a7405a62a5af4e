"""How a model's inputs are cut and its outputs read: what of a task a model must carry with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from compress.model.config import max_tokens, target_of
from compress.model.family import Target


@dataclass(frozen=True)
class Reading:
    """What is predicted and how; see the fields of `TaskSpec` of the same names."""

    target: Target = "class"
    max_length: int = 128
    stride: int = 32
    max_answer: int = 30
    no_answer: bool = False
    null_threshold: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a JSON document."""
        return asdict(self)


def reading_of(config: dict[str, Any], manifest: dict[str, Any] | None) -> Reading:
    """Return how a model folder's inputs and outputs are to be read: as its manifest records, else as its config allows."""
    recorded = (manifest or {}).get("reading") or (manifest or {}).get("task") or {}
    known = {field.name: recorded[field.name] for field in fields(Reading) if recorded.get(field.name) is not None}
    limit = max_tokens(config)
    known["max_length"] = min(known.get("max_length") or (manifest or {}).get("max_length") or limit, limit)
    own = target_of(config) or "class"
    unsaid = own == "class" and not config.get("problem_type") and known.get("target") == "labels"
    return Reading(**{**known, "target": "labels" if unsaid else own})
