"""The instruction sets that an int8 graph is made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress import console, machine
from compress.quantize.dynamic import needs_seven_bits

Name = Literal["auto", "amx", "vnni", "avx2", "arm64"]
NEEDED = {"amx": {"amx_int8"}, "vnni": {"avx512_vnni", "avx_vnni"}, "avx2": {"avx2"}, "arm64": {"asimd"}}  # one of them


@dataclass(frozen=True)
class Target:
    """What the graph is made for, whether this processor is one, and what follows from it for weights and activations."""

    name: str
    here: bool
    seven_bits: bool
    symmetric: bool

    @property
    def weights(self) -> str:
        """How manifests call the weights."""
        return "int8 per channel, 7 bits" if self.seven_bits else "int8 per channel"


def find_target(name: Name, flags: list[str] | None = None) -> Target:
    """Return what a target asks for; `auto` is the processor with these instruction sets (default: this one).

    Weights are kept to 7 bits where products are added in 16; ARM wants signed activations around 0. Warns of a target that
    this processor is not.
    """
    found = machine.cpu_flags() if flags is None else flags
    if name == "auto":
        return Target(name, True, needs_seven_bits(found), "asimd" in found)
    here = bool(NEEDED[name] & set(found))
    if not here:
        console.warn(f"this processor has no {name}: the int8 graph is made for one that has, and is not timed here")
    return Target(name, here, name == "avx2", name == "arm64")
