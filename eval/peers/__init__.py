"""The tools that are compared: for each its requirements and its variants. Nothing here imports them.

A peer's module runs in the peer's own environment, without this project, and has two functions:

- `build(variant, teacher, output, calibration)` makes the artifact from the teacher's checkpoint; a peer without it
  runs the checkpoint itself. `calibration` is a list of token batches of training texts.
- `open_model(variant, folder, threads)` returns a function from a batch of (batch, length) int64 arrays
  (`input_ids`, `attention_mask`, `token_type_ids`) to float logits, and facts about what really runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONSTRAINTS = HERE / "constraints.txt"
Batch = dict[str, Any]
Forward = Callable[[Batch], Any]
Opened = tuple[Forward, dict[str, Any]]


@dataclass(frozen=True)
class Peer:
    """A tool: its module, its variants as they are called in tables, and whether it has a separate environment."""

    name: str
    module: str
    variants: dict[str, str]
    isolated: bool = True
    builds: bool = True

    @property
    def requirements(self) -> Path:
        """The file of pinned requirements (of an isolated peer)."""
        return HERE / f"{self.name}.txt"

    @property
    def source(self) -> Path:
        """The file of its module."""
        return HERE / f"{self.module.rpartition('.')[2]}.py"


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "pytorch",
            "peers.pytorch",
            {
                "fp32": "PyTorch fp32",
                "bf16": "PyTorch bf16",
                "compile": "PyTorch torch.compile fp32",
                "int8": "PyTorch int8 (torch.ao, dynamic)",
            },
            isolated=False,
            builds=False,
        ),
        Peer(
            "optimum-onnx",
            "peers.optimum_onnx",
            {
                "fp32": "optimum-onnx fp32",
                "O3": "optimum-onnx O3",
                "int8": "optimum-onnx int8 (dynamic)",
                "default": "ONNX Runtime quantize_dynamic, its defaults",
            },
        ),
        Peer(
            "openvino",
            "peers.openvino_nncf",
            {"fp32": "OpenVINO fp32", "bf16": "OpenVINO bf16", "int8": "OpenVINO int8 (NNCF) + bf16"},
        ),
    )
}
OURS = Peer("compress", "peers.ours", {"onnx": "compress"}, isolated=False, builds=False)
