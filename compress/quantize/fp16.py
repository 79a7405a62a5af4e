"""Whether the values inside a graph fit float16."""

from __future__ import annotations

import numpy as np
import onnx

from compress.core.errors import ModelError
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.export.half import LARGEST
from compress.inference.onnx_session import open_session
from compress.quantize.calibrate import BATCH_TOKENS, expose_values


def check_range(model: onnx.ModelProto, data: Encoded, examples: int = 64) -> None:
    """Check on some texts that every value inside a float graph fits float16.

    ONNX Runtime's CPU kernels cannot tell: they compute in float32, and most casts between them cancel out.

    Raises:
        ModelError: a value beyond what float16 can hold.
    """
    names = [name for node in model.graph.node for name in node.output if name]
    session = open_session(expose_values(model, names).SerializeToString(), None, "cpu", {})
    some = data.take(np.linspace(0, len(data) - 1, min(examples, len(data))).astype(int))
    for positions in evaluation_batches(some.lengths, examples, BATCH_TOKENS):
        batch = some.batch(positions)
        for name, value in zip(names, session.run(names, {entry.name: batch[entry.name] for entry in session.get_inputs()}), strict=True):
            if value.dtype == np.float32 and value.size and not np.abs(value).max() <= LARGEST:
                raise ModelError(
                    f"{name} reaches {np.abs(value).max():g}, beyond {LARGEST:g}, the largest number of float16",
                    "use --method bf16, or int8",
                )
