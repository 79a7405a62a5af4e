"""What an artifact was made for, and this processor lacks: a warning, and the exact form of int8 products."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core import console, machine

if TYPE_CHECKING:
    from compress.results import RuntimeHints

EIGHT_BITS = "int8 per channel"  # how manifests record weights that use all 8 bits
# ONNX Runtime then multiplies uint8 by uint8, which does not saturate without VNNI.
EXACT_PRODUCTS = {"session.x64quantprecision": "1"}


def saturates(manifest: Mapping[str, Any]) -> bool:
    """Return whether this processor would add the artifact's products of 8 bits in 16 bits, where they saturate."""
    return manifest.get("weights") == EIGHT_BITS and bool(machine.cpu_flags()) and not machine.wide_dot_products()


def with_exact_products(hints: RuntimeHints) -> RuntimeHints:
    """Return the hints of a session whose int8 products do not saturate on any processor: slower, and the same numbers as with VNNI."""
    return {**hints, "session_config": {**hints.get("session_config", {}), **EXACT_PRODUCTS}}


def lacking_instruction_sets(manifest: Mapping[str, Any]) -> str:
    """Return the instruction sets, by name, that an artifact was made for and this processor lacks, as text; empty if there are none."""
    recorded = manifest.get("instruction_sets")
    names = machine.lacking([flag for flag in recorded if isinstance(flag, str)]) if isinstance(recorded, list) else []
    if computes_in_bf16(manifest) and machine.emulates_bf16():
        names.append("bfloat16 matmuls")
    return " and ".join(names)


def computes_in_bf16(manifest: Mapping[str, Any]) -> bool:
    """Return whether OpenVINO is to compute an artifact's floats in bfloat16."""
    hints = manifest.get("runtime")
    openvino = hints.get("openvino") if isinstance(hints, Mapping) else None
    return isinstance(openvino, Mapping) and openvino.get("precision") == "bf16"


def warn_of_lacking(manifest: Mapping[str, Any], folder: Path) -> None:
    """Warn once if the artifact was made for another processor, and say what to type."""
    lacks = lacking_instruction_sets(manifest)
    if not lacks:
        return
    effect = "its int8 products are computed in an exact, slower form" if saturates(manifest) else "it may be slow here"
    source = "quantize MODEL -o DIR" if manifest.get("verb") == "quantize" else "export MODEL -o DIR"
    console.warn_once(
        f"{folder.name} was made for a processor with {lacks}, which this one lacks: {effect}; make it on this machine: compress {source}"
    )
