"""Low-rank factorization of linears and token embeddings: the stage `factorize`."""

from __future__ import annotations

import copy
from pathlib import Path

from compress.core import console
from compress.editing.calibration import Calibration
from compress.editing.dense_model import DenseModel, load_dense_model
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.factorize.embeddings import factorize_embeddings
from compress.factorize.linears import factorize_linears
from compress.inference.validation import validate_both
from compress.models import shape as shapes
from compress.models.checkpoint import save_model
from compress.models.device import pick_device
from compress.models.inputs import calibration_examples, encode_for
from compress.models.model_shape import count_params, model_shape
from compress.models.types import TransformersModel
from compress.results import FactorizeDocument, Metrics
from compress.settings import FactorizeSettings
from compress.stage import Inputs

COUNTED_TEXTS = 100_000  # the most texts in which tokens are counted


def run(inputs: Inputs, settings: FactorizeSettings, output: Path) -> FactorizeDocument:
    """Factorize the token embeddings, then the linears, refit the output projections, and write the checkpoint.

    Raises:
        UsageError: a rank that makes nothing smaller, a target out of reach, or a model that `factorize` does not take.
        DataError: the model does not fit the task, or the calibration texts are unusable.
    """
    dense = load_dense_model(inputs.source, inputs.task, inputs.seed, "factorize")
    calibration = dense.calibration(settings.unlabeled, settings.calib_samples)
    seq_len = settings.seq_len or calibration.mean_length
    model = copy.deepcopy(dense.model)
    if settings.embedding_rank:
        examples = calibration_examples(calibration.examples, COUNTED_TEXTS, dense.seed)
        texts = encode_for(dense.source, examples, dense.task.spec.input_spec)
        factorize_embeddings(model, texts, settings.embedding_rank, uniform=settings.method == "plain")
    if settings.changes_linears:
        factorize_linears(model, dense.shape, calibration, settings, seq_len)
    refits = _refit(model, dense, calibration, settings) if settings.refit else []

    metrics = validate_both(dense, model)
    save_model(model, output, dense.source)
    after = model_shape(model)
    _announce(dense, after, seq_len, metrics)
    return {
        "target": {**settings.asked, "seq_len": seq_len},
        "method": settings.method,
        "params": count_params(model),
        "params_before": count_params(dense.model),
        "flops": after.flops(seq_len),
        "flops_before": dense.shape.flops(seq_len),
        "layers": after.as_json(),
        "embedding_rank": after.embedding[0] if after.embedding else None,
        "refits": refits,
        "metrics": {"validation": metrics},
    }


def _refit(model: TransformersModel, dense: DenseModel, calibration: Calibration, settings: FactorizeSettings) -> list[dict[str, float]]:
    """Refit the output projections (of factors the last one) to the dense model, on the factorized model's own inputs."""
    device = pick_device(settings.device)
    batches = [calibration.inputs(positions, dense.model, device) for positions in calibration.shuffled_batches()]
    model.to(device)
    dense.model.to(device)
    with console.progress("refitting layers", len(dense.shape.layers)) as advance:
        errors = reconstruct(model, DenseTargets(dense.model, batches), advance=advance)
    dense.model.to("cpu")
    return errors


def _announce(dense: DenseModel, after: shapes.Shape, seq_len: int, metrics: Metrics) -> None:
    """Print the size, the ranks and the score."""
    before = dense.shape
    flops, params = after.flops(seq_len) / before.flops(seq_len), after.params() / before.params()
    console.info(f"  {100 * flops:.1f} % of the encoder's FLOPs, {100 * params:.1f} % of its parameters")
    for number, layer in enumerate(after.layers):
        if layer.ranks:
            console.info(f"  layer {number}: rank " + ", ".join(f"{role} {rank}" for role, rank in layer.ranks))
    if metrics:
        main = dense.task.spec.main_metric
        console.info(f"  validation {main} {100 * metrics[main]:.2f}, before {100 * metrics['before']:.2f}")
