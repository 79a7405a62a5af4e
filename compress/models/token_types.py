"""Token types (`token_type_ids`) in a tokenizer's post-processor, as `tokenizer.json` describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Processor = dict[str, Any]
_PLAIN = {  # "$A" and "$B" without special tokens
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {},
}
_EMPTY = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}}


def processor_document(tokenizer: Tokenizer) -> Processor | None:
    """Return a tokenizer's post-processor as `tokenizer.json` describes it; None if it has none."""
    processor: Any = tokenizer.post_processor
    return None if processor is None else json.loads(processor.__getstate__())


def set_processor(tokenizer: Tokenizer, processor: Processor) -> None:
    """Replace a tokenizer's post-processor."""
    from tokenizers import Tokenizer as Opened

    opened = Opened.from_str(json.dumps(_EMPTY | {"post_processor": processor}))
    tokenizer.post_processor = opened.post_processor


def without_types(processor: Processor | None) -> Processor:
    """Return a post-processor that adds the same special tokens, and gives every token the type 0."""
    if processor is None:
        return _PLAIN
    kind = processor.get("type")
    if kind == "Sequence":
        parts = processor["processors"]
        if any(part.get("type") != "ByteLevel" for part in parts):
            return {**processor, "processors": [part if part.get("type") == "ByteLevel" else without_types(part) for part in parts]}
        return {**processor, "processors": [*parts, _PLAIN]}
    if kind == "ByteLevel":
        return {"type": "Sequence", "processors": [processor, _PLAIN]}
    if kind == "BertProcessing":
        return _as_template(processor)
    if kind == "TemplateProcessing":
        return {**processor, **{form: [_typed(piece, 0) for piece in processor[form]] for form in ("single", "pair")}}
    return processor  # RobertaProcessing gives 0 to every token


def largest_type(processor: Processor | None) -> int:
    """Return the largest token type that a post-processor gives."""
    kind = (processor or {}).get("type")
    if processor is None or kind in ("ByteLevel", "BertProcessing"):
        return 1  # of a pair's second text
    if kind == "Sequence":
        return max((largest_type(part) for part in processor["processors"] if part.get("type") != "ByteLevel"), default=1)
    if kind == "TemplateProcessing":
        return max((entry["type_id"] for form in ("single", "pair") for piece in processor[form] for entry in piece.values()), default=0)
    return 0


def _as_template(processor: Processor) -> Processor:
    """Return BERT's processor as a template with the type 0 everywhere."""
    (cls, cls_id), (sep, sep_id) = processor["cls"], processor["sep"]
    start, end = {"SpecialToken": {"id": cls, "type_id": 0}}, {"SpecialToken": {"id": sep, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    tokens = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in ((cls, cls_id), (sep, sep_id))}
    return {
        "type": "TemplateProcessing",
        "single": [start, first, end],
        "pair": [start, first, end, second, end],
        "special_tokens": tokens,
    }


def _typed(piece: dict[str, Processor], number: int) -> dict[str, Processor]:
    return {kind: {**entry, "type_id": number} for kind, entry in piece.items()}
