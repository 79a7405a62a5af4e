"""Facts about this machine: processor, instruction sets, memory, GPU, versions. Imports no torch at its top."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Collection
from functools import cache
from pathlib import Path

from compress.core.version import __version__

LIBRARIES = (
    "torch", "transformers", "tokenizers", "safetensors", "torch-pruning", "peft", "onnx", "onnxruntime", "openvino", "numpy",
    "scikit-learn", "datasets", "pyarrow",
)  # fmt: skip
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "I8MM",
    "sve": "SVE",
}


@cache
def _cpuinfo() -> dict[str, str]:
    """Return the first processor's entries of /proc/cpuinfo (empty where there is none)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    entries = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in entries}


def cpu_name() -> str:
    """Return the name of the processor, with family and model if known."""
    info = _cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in info and "model" in info:
        name += f" (family {info['cpu family']}, model {info['model']})"
    return name


def cpu_flags() -> list[str]:
    """Return the instruction sets of `INSTRUCTION_SETS` that this processor has, by their kernel names."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [flag for flag in INSTRUCTION_SETS if flag in flags]


# Without these, int8 dot products add pairs of products in 16 bits, which saturates with 8-bit weights.
WIDE_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}


DECISIVE = ("avx2", "avx512f", "amx_int8", "asimd")  # without these, a graph that was made for them is slower

BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def has_bf16() -> bool:
    """Return whether this processor has matrix multiplication in bfloat16."""
    return bool(BFLOAT16 & set(cpu_flags()))


def has_fast_bf16() -> bool:
    """Return whether matmuls in bfloat16 are faster than in float32.

    Measured with MiniLM in OpenVINO: with AVX512-BF16 alone bfloat16 took as long as float32 for 16 tokens, 1.7x as long for 1024.
    """
    return "amx_bf16" in cpu_flags()


def emulates_bf16() -> bool:
    """Return whether this is an x86 processor without bfloat16 matmuls: they are then up to 20x slower than in float32."""
    return platform.machine().lower() in {"x86_64", "amd64"} and bool(cpu_flags()) and not has_bf16()


def wide_dot_products() -> bool:
    """Return whether this processor accumulates int8 products in 32 bits."""
    return bool(WIDE_DOT_PRODUCTS & set(cpu_flags()))


def lacking(recorded: Collection[str]) -> list[str]:
    """Return the instruction sets, by name, that an artifact was made for and that this processor lacks; empty if its flags are unknown.

    Of the sets with int8 dot products one is as good as another; of the others those count that decide how fast a graph is.

    Args:
        recorded: kernel names, as manifests record them.
    """
    flags = set(cpu_flags())
    if not flags:
        return []
    lacks = [flag for flag in DECISIVE if flag in recorded and flag not in flags]
    if WIDE_DOT_PRODUCTS & set(recorded) and not WIDE_DOT_PRODUCTS & flags:
        lacks += [flag for flag in INSTRUCTION_SETS if flag in WIDE_DOT_PRODUCTS & set(recorded) and flag not in lacks][:1]
    return [INSTRUCTION_SETS[flag] for flag in lacks]


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the libraries that results depend on (None: not installed)."""
    return {"python": platform.python_version(), **{library: version_of(library) for library in LIBRARIES}}


@cache
def version_of(library: str) -> str | None:
    """Return an installed library's version, or None."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def governor() -> str | None:
    """Return the frequency governor of the first core, or None if the system does not report it."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def gpus() -> list[str]:
    """Return the names of the GPUs that PyTorch sees; imports torch."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def facts() -> dict[str, object]:
    """Return the facts that a measurement depends on, for manifests and reports."""
    import psutil

    return {
        "cpu": cpu_name(),
        "instruction_sets": [INSTRUCTION_SETS[flag] for flag in cpu_flags()],
        "cores": cores(),
        "governor": governor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "compress": __version__,
        **{name: version for name, version in versions().items() if version},
    }


def identity() -> list[object]:
    """Return the facts that distinguish machines in the keys of cached measurements."""
    return [cpu_name(), cores(), cpu_flags()]
