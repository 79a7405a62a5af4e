"""Which method `quantize` uses: the one requested, or what `auto` means for the model, the data and the target."""

from __future__ import annotations

from compress.core import console
from compress.core.errors import UsageError
from compress.inference.routes import OPENVINO
from compress.models.config import read_config
from compress.models.int8_ranges import recorded_ranges
from compress.models.shape import shape_of_config
from compress.quantize.instruction_sets import GPUS
from compress.quantize.variants import CALIBRATED, HALF_PRECISION
from compress.settings import QuantizeSettings
from compress.settings.base import flag
from compress.stage import Inputs

TRAINED = ("auto", "static")  # the methods that read the ranges that a model was trained with
CALIBRATION_SETTINGS = ("calib_method", "calib_samples", "unlabeled")


def resolve_method(inputs: Inputs, settings: QuantizeSettings) -> str:
    """Return the method, see `_method`; warns of settings of a calibration that `auto` does not do here."""
    method = _method(inputs, settings)
    fields = QuantizeSettings.model_fields
    given = [name for name in CALIBRATION_SETTINGS if getattr(settings, name) != fields[name].default]
    if given and method in TRAINED and recorded_ranges(read_config(inputs.source)):
        console.warn(f"ignored: {', '.join(map(flag, given))}; the model has the ranges that it was trained with")
    elif given and settings.method == "auto" != method:
        console.warn(f"ignored: {', '.join(map(flag, given))}; method auto is {method} here, which is not calibrated")
    return method


def _method(inputs: Inputs, settings: QuantizeSettings) -> str:
    """Return the method; `auto` becomes `dynamic` without a task to measure on or texts to calibrate on.

    Raises:
        UsageError: the method lacks texts, or the gate lacks a task; the model or the target does not support the method.
    """
    task, method, gpu = inputs.task_or_none, settings.method, settings.target in GPUS
    if settings.max_drop is not None and task is None:
        raise UsageError("--max-drop needs data to measure the drop on", "give --task T, or --validation, --text and --label")
    texts = bool(settings.unlabeled) or (task is not None and "train" in task.available)
    if gpu and method == "dynamic":
        raise UsageError(f"--target {settings.target} does not support dynamic int8", "use --method static, or --method fp16")
    if settings.target == "cuda" and method == "auto":
        console.info("  auto, for cuda: fp16 (ONNX Runtime's CUDA kernels compute int8 matmuls in float)")
        return "fp16"
    config = read_config(inputs.source)
    trained = method in TRAINED and bool(recorded_ranges(config))
    sizes = shape_of_config(config).without_layers
    if sizes is not None:
        return _method_without_layers(settings, sizes.title)
    if trained:
        return "auto" if method == "auto" and task is not None else "static"
    if not texts and (method in CALIBRATED or (gpu and method == "auto")):
        raise UsageError(f"--method {method} needs texts to calibrate on", "give --task T with a training split, or --unlabeled FILE")
    if method != "auto":
        return method
    if settings.unlabeled and task is None:
        raise UsageError("--method auto needs a task to choose by, not only texts", "give --task T as well, or --method static")
    return "auto" if texts else "dynamic"


def _method_without_layers(settings: QuantizeSettings, title: str) -> str:
    """Return the method for a BiLSTM or a static model: dynamic int8, or half precision.

    ONNX Runtime has no LSTM for another integer method, and almost all of a static model are tables, which have no activations.

    Raises:
        UsageError: another integer method, or another runtime than ONNX Runtime on CPUs.
    """
    method = "dynamic" if settings.method == "auto" else settings.method
    on_cpu = settings.target not in GPUS and settings.runtime != OPENVINO
    if method in HALF_PRECISION or (method == "dynamic" and on_cpu):
        return method
    raise UsageError(
        f"a {title} supports dynamic int8 only, in ONNX Runtime on CPUs, besides fp16 and bf16", "use --method dynamic, fp16 or bf16"
    )
