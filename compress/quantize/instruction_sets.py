"""What a graph is made for: the instruction sets of processors, and GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.core import console, machine
from compress.quantize.dynamic import needs_seven_bits

Name = Literal["auto", "amx", "vnni", "avx2", "arm64", "cuda", "tensorrt"]
GPUS = ("cuda", "tensorrt")
NEEDED = {"amx": {"amx_int8"}, "vnni": {"avx512_vnni", "avx_vnni"}, "avx2": {"avx2"}, "arm64": {"asimd"}}  # one of them


@dataclass(frozen=True)
class Target:
    """What the graph is made for, whether this processor is one, and what follows from it for weights and activations."""

    name: str
    here: bool
    seven_bits: bool
    symmetric: bool
    gpu: bool = False

    @property
    def weights(self) -> str:
        """How manifests call the weights."""
        return "int8 per channel, 7 bits" if self.seven_bits else "int8 per channel"

    @property
    def made_for(self) -> list[str]:
        """The instruction sets that the graph may count on, for manifests; of a GPU its name."""
        if self.gpu:
            return [self.name]
        return machine.cpu_flags() if self.name == "auto" else sorted(NEEDED[self.name])


def hardware_target(name: Name, flags: list[str] | None = None) -> Target:
    """Return what a target asks for; `auto` is the processor with these instruction sets (default: this one).

    Weights are kept to 7 bits where matmuls are added in 16; ARM and TensorRT want signed activations around 0. Warns of a
    target that this processor is not.
    """
    found = machine.cpu_flags() if flags is None else flags
    if name == "auto":
        return Target(name, True, needs_seven_bits(found), "asimd" in found)
    if name in GPUS:
        console.warn(f"the graph is made for {name}: it is checked on this processor, and not timed here")
        return Target(name, False, False, True, gpu=True)
    here = bool(NEEDED[name] & set(found))
    if not here:
        console.warn(f"this processor has no {name}: the graph is made for one that has, and is not timed here")
    return Target(name, here, name == "avx2", name == "arm64")
