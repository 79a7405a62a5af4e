"""How an int8 artifact is run: which of its accurate forms in which runtime, with which options."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np

from compress.core import console
from compress.core.errors import GateMissed
from compress.core.machine import has_fast_bf16
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.export import SHARES, TRIED_EXAMPLES
from compress.export.tune import TunableGraphs, TunedGraph, choose
from compress.export.verify import cached_forward, verify
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.routes import OPENVINO
from compress.models.config import max_tokens
from compress.quantize.auto import Choice, open_graph
from compress.quantize.openvino import openvino_graph
from compress.quantize.variants import CALIBRATED
from compress.settings import QuantizeSettings

SLACK = 1.5  # how much farther from the float graph than the form chosen by accuracy another way to run it may be
ROUNDING = 1e-3


def choose_serving(choice: Choice, settings: QuantizeSettings, reference: OnnxModel, data: Encoded, here: bool) -> TunedGraph:
    """Return the fastest of the forms that are accurate enough, in the runtime and with the options that suit it.

    OpenVINO is given a calibrated form only: it runs dynamic int8 several times slower than ONNX Runtime.

    Args:
        choice: what `quantize` chose, and all forms that are accurate enough.
        settings: `tune`, `runtime` and the shapes that are timed.
        reference: the float graph.
        data: texts to verify on.
        here: whether this processor is the one that the form is made for; nothing is timed elsewhere.

    Raises:
        GateMissed: only OpenVINO was asked for, and no calibrated form is accurate enough.
        ResourceError: OpenVINO was asked for and is not installed.
    """
    calibrated = next((method for method in CALIBRATED if method in choice.passing), None)
    if settings.runtime == OPENVINO and calibrated is None:
        raise GateMissed(
            "static int8, the form that OpenVINO runs, loses too many points on validation", "allow more with --max-drop, or --runtime auto"
        )
    if not here:
        settings = settings.model_copy(update={"tune": False, "runtime": OPENVINO if settings.runtime == OPENVINO else "onnxruntime"})
    elif settings.runtime == "auto" and calibrated is None:
        console.info("  OpenVINO is left out: it runs dynamic int8 slowly, and there is no static form")
        settings = settings.model_copy(update={"runtime": "onnxruntime"})
    methods = list(dict.fromkeys([choice.method, *choice.passing]))
    if settings.runtime == OPENVINO and calibrated is not None:
        methods = [calibrated]
    elif not settings.tune:
        methods = [choice.method]
    graphs = choice.passing
    candidates = TunableGraphs(
        {"method": methods},
        lambda point: graphs[point["method"]],
        None if calibrated is None else cache(lambda: openvino_graph(graphs[calibrated])),
    )
    floats, config = "bf16" if has_fast_bf16() else "fp32", reference.config
    check = _Check(choice, reference, data, floats)
    return choose(candidates, settings, floats, check, config["vocab_size"], max_tokens(config))


class _Check:
    """Tells whether a way to run an int8 form is about as near to the float graph as that form is in ONNX Runtime."""

    def __init__(self, choice: Choice, reference: OnnxModel, data: Encoded, floats: str) -> None:
        self.choice, self.floats = choice, floats
        self.target: Target = reference.target
        self.reference = cached_forward(lambda batch: reference.logits(batch))
        self.data = data.take(np.linspace(0, len(data) - 1, min(TRIED_EXAMPLES, len(data))).astype(int))

    @cached_property
    def limit(self) -> float:
        """The largest difference of the logits that is allowed where floats are fp32."""
        usual = [verify(self.reference, open_graph(graph), self.data, self.target).max_abs for graph in self.choice.passing.values()]
        return SLACK * max(usual) + ROUNDING

    def __call__(self, forward: Forward, runtime: str) -> str | None:
        found = verify(self.reference, forward, self.data, self.target)
        limit = self.limit + (SHARES[self.floats] * found.largest if runtime == OPENVINO and self.floats in SHARES else 0.0)
        if found.max_abs <= limit:
            return None
        return f"differs from the float graph by {found.max_abs:.2e} on '{found.worst_case}', more than {limit:g}"
