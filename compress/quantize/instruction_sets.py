"""The hardware that a graph is quantized for: instruction sets of processors, and GPUs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from compress.core import console, machine

TargetName = Literal["auto", "amx", "vnni", "avx2", "arm64", "cuda", "tensorrt"]
GPUS = ("cuda", "tensorrt")
REQUIRED_FLAGS = {"amx": {"amx_int8"}, "vnni": {"avx512_vnni", "avx_vnni"}, "avx2": {"avx2"}, "arm64": {"asimd"}}  # any of them


@dataclass(frozen=True)
class HardwareTarget:
    """The hardware that a graph is quantized for.

    Attributes:
        name: as given by the user.
        here: whether this machine is such hardware.
        seven_bits: keep weights within 7 bits.
        symmetric: quantize activations as signed integers around 0.
        gpu: whether it is a GPU.
    """

    name: str
    here: bool
    seven_bits: bool
    symmetric: bool
    gpu: bool = False

    @property
    def weights(self) -> str:
        """The format of the weights, as manifests record it."""
        return "int8 per channel, 7 bits" if self.seven_bits else "int8 per channel"

    @property
    def instruction_sets(self) -> list[str]:
        """The instruction sets that the graph relies on, as manifests record them; the name of a GPU."""
        if self.gpu:
            return [self.name]
        return machine.cpu_flags() if self.name == "auto" else sorted(REQUIRED_FLAGS[self.name])


def needs_seven_bits(flags: Collection[str] | None = None) -> bool:
    """Return whether weights must stay within 7 bits on a processor with these instruction sets (default: this one).

    Without VNNI, products of uint8 and int8 are added in 16 bits and saturate.
    """
    return not machine.WIDE_DOT_PRODUCTS & set(machine.cpu_flags() if flags is None else flags)


def hardware_target(name: TargetName, flags: Collection[str] | None = None) -> HardwareTarget:
    """Return what a target requires of weights and activations, and warn if this machine is not such a target.

    Args:
        name: the target; `auto` is the processor with the given instruction sets.
        flags: instruction sets; default: those of this processor.
    """
    flags = machine.cpu_flags() if flags is None else flags
    if name == "auto":
        return HardwareTarget(name, True, needs_seven_bits(flags), "asimd" in flags)
    if name in GPUS:
        console.warn(f"the graph is for {name}: it is verified on this processor, and not timed")
        return HardwareTarget(name, False, False, True, gpu=True)
    here = bool(REQUIRED_FLAGS[name] & set(flags))
    if not here:
        console.warn(f"this processor has no {name}: the graph is for one that has it, and is not timed here")
    return HardwareTarget(name, here, name == "avx2", name == "arm64")
