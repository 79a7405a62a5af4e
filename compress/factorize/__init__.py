"""Low-rank factorization of linears and word embeddings: the stage `factorize`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.core import console
from compress.core.errors import UsageError
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.data.unlabeled import read_unlabeled
from compress.editing.least_squares import shuffle_batches
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.factorize.allocate import WHOLE, allocate, break_even, fixed_ranks, weight_budget
from compress.factorize.statistics import Statistics, activation_statistics, fisher_statistics
from compress.factorize.svd import WeightedSvd, factored_table
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models import shape as shapes
from compress.models.adapters import refuse_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.config import read_config
from compress.models.device import pick_device, to_tensors
from compress.models.inputs import calibration_examples, encode_calibration, encode_for
from compress.models.label_mapping import map_labels
from compress.models.layers import encoder_layers, refuse_recurrent
from compress.models.low_rank import (
    FactoredEmbedding,
    FactoredLinear,
    encoder_linears,
    refuse_factorized,
    replace_linear,
    set_word_embeddings,
    word_embeddings,
)
from compress.models.model_shape import count_params, model_shape
from compress.models.sharing import refuse_shared
from compress.models.task_loss import logits_of, sampled_labels, task_loss
from compress.results import FactorizeDocument
from compress.settings import FactorizeSettings
from compress.stage import Inputs

BATCH = 32
COUNTED = 100_000  # texts whose words are counted


def run(inputs: Inputs, settings: FactorizeSettings, output: Path) -> FactorizeDocument:
    """Factorize the word embeddings, then the linears, refit what is left, and write the checkpoint.

    Raises:
        UsageError: a rank that makes nothing smaller, a target out of reach, or a model that this does not take.
    """
    task, source = inputs.task, inputs.source
    dense = load_model(source, target=task.spec.target)
    for refuse in (refuse_recurrent, refuse_adapters, refuse_factorized, refuse_shared):
        refuse(dense, "factorize")
    classes = map_labels(read_config(source), task, str(source.name))
    examples = read_unlabeled(settings.unlabeled, task.spec) if settings.unlabeled else task.split("train")
    data = encode_calibration(source, examples, task.spec.input_spec, settings.calib_samples, inputs.seed)
    seq_len = settings.seq_len or round(float(data.lengths.mean()))
    evaluator = Evaluator(task, "validation", source, classes) if "validation" in task.available else None

    def validate(model: Any) -> dict[str, float]:
        return {} if evaluator is None else evaluator.score(torch_forward(model))

    score, before = validate(dense).get(task.spec.main_metric), model_shape(dense)
    model = copy.deepcopy(dense)
    if settings.embedding_rank:
        counted = encode_for(source, calibration_examples(examples, COUNTED, inputs.seed), task.spec.input_spec)
        factorize_embeddings(model, counted, settings.embedding_rank, plain=settings.method == "plain")
    refits: list[dict[str, float]] = []
    if settings.changes_linears:
        factorize_linears(model, before, data, task.spec.target, settings, seq_len, inputs.seed)
    if settings.refit:
        refits = _refit(model, dense, data, settings, inputs.seed)
    found, after = validate(model.to("cpu")), model_shape(model)
    save_model(model, output, source)
    _announce(before, after, seq_len, found.get(task.spec.main_metric), score)
    return {
        "target": {**settings.asked, "seq_len": seq_len},
        "method": settings.method,
        "params": count_params(model),
        "params_before": count_params(dense),
        "flops": after.flops(seq_len),
        "flops_before": before.flops(seq_len),
        "layers": after.as_json(),
        "embedding_rank": after.embedding[0] if after.embedding else None,
        "refits": refits,
        "metrics": {"validation": {"n": len(evaluator), **found, "before": score} if evaluator is not None else {}},
    }


def _announce(before: shapes.Shape, after: shapes.Shape, seq_len: int, score: float | None, old: float | None) -> None:
    flops, params = after.flops(seq_len) / before.flops(seq_len), after.params() / before.params()
    console.info(f"  {100 * flops:.1f} % of the encoder's FLOPs, {100 * params:.1f} % of its parameters")
    for number, layer in enumerate(after.layers):
        if layer.ranks:
            console.info(f"  layer {number}: rank " + ", ".join(f"{role} {rank}" for role, rank in layer.ranks))
    if score is not None and old is not None:
        console.info(f"  validation {100 * score:.2f}, before {100 * old:.2f}")


def factorize_embeddings(model: Any, data: Encoded, rank: int, plain: bool = False) -> None:
    """Replace the word embeddings by a table of `rank` columns and a projection, in place.

    Args:
        model: with word embeddings in one table.
        data: whose tokens tell how often each word is used; every word counts once more, so that none is free.
        rank: of the table.
        plain: count every word alike.

    Raises:
        UsageError: this would not be smaller.
    """
    words = word_embeddings(model)
    largest = break_even((words.num_embeddings, words.embedding_dim))
    if rank > min(largest, words.embedding_dim - 1):
        raise UsageError(
            f"word embeddings of {words.num_embeddings:,} x {words.embedding_dim} are no smaller at rank {rank}",
            f"give --embedding-rank {max(1, min(largest, words.embedding_dim - 1))} or less",
        )
    counts = np.ones(words.num_embeddings)
    if not plain:
        counts += np.bincount(np.concatenate(data.input_ids), minlength=words.num_embeddings)
    table, project, bias = factored_table(words.weight, torch.from_numpy(counts), rank)
    module = FactoredEmbedding(words.num_embeddings, words.embedding_dim, rank, words.padding_idx)
    with torch.no_grad():
        module.table.weight.copy_(table)
        module.project.weight.copy_(project)
        module.project.bias.copy_(bias)
    set_word_embeddings(model, module.eval())


def factorize_linears(
    model: Any, before: shapes.Shape, data: Encoded, target: Target, settings: FactorizeSettings, seq_len: int, seed: int
) -> None:
    """Choose ranks for the linears and put their factors in, in place.

    Args:
        model: its embeddings may be factorized already.
        before: the shape that shares are of.
        data: calibration texts.
        target: what the model answers.
        settings: method and target.
        seq_len: tokens of a text, for FLOPs.
        seed: of labels drawn from the model.
    """
    found = list(encoder_linears(model))
    sizes = [(linear.in_features, linear.out_features) for _, _, linear in found]
    statistics = _statistics(model, data, target, settings, seed)
    with console.progress("decomposing", len(found)) as advance:
        decomposed = []
        for (_, _, linear), known in zip(found, statistics, strict=True):
            decomposed.append(WeightedSvd(linear.weight, known))
            advance()
    if settings.target_flops or settings.target_params:
        budget = weight_budget(before, model_shape(model), settings.target_flops, settings.target_params, seq_len)
        # of a gradient's units losses compare; otherwise they are shares of what each linear puts out
        losses = [each.losses if settings.method == "fisher" else each.losses / max(each.losses[0], 1e-30) for each in decomposed]
        ranks = allocate(sizes, losses, budget)
    else:
        ranks = fixed_ranks(sizes, settings.rank, settings.ratio)
    stack = list(encoder_layers(model))
    for (number, role, linear), each, rank in zip(found, decomposed, ranks, strict=True):
        if rank != WHOLE:
            replace_linear(model, stack[number], role, _factored(linear, each, rank))


def _factored(linear: Any, decomposed: WeightedSvd, rank: int) -> FactoredLinear:
    up, down, gain = decomposed.factors(rank)
    module = FactoredLinear(linear.in_features, linear.out_features, rank)
    with torch.no_grad():
        module.down.weight.copy_(down)
        module.up.weight.copy_(up)
        module.up.bias.copy_(linear.bias.detach().double().cpu() + gain)
    return module.eval()


def _statistics(model: Any, data: Encoded, target: Target, settings: FactorizeSettings, seed: int) -> list[Statistics | None]:
    """Return what the method weighs the errors of every linear by: None of plain ones."""
    if settings.method == "plain":
        return [None for _ in encoder_linears(model)]
    device = pick_device(settings.device)
    model.to(device)
    batches = evaluation_batches(data.lengths, BATCH)
    with console.progress("reading activations", len(batches)) as advance:
        if settings.method == "activations":
            found = activation_statistics(model, [to_tensors(data.batch(positions), model, device) for positions in batches], advance)
        else:
            found = fisher_statistics(model, batches, _loss(model, data, target, seed), advance)
    model.to("cpu")
    return list(found)


def _loss(model: Any, data: Encoded, target: Target, seed: int) -> Callable[[np.ndarray], torch.Tensor]:
    """Return the summed loss of a batch with labels drawn from the model, whose squared gradients estimate Fisher information."""
    draw = torch.Generator().manual_seed(seed)

    def loss_of(positions: np.ndarray) -> torch.Tensor:
        batch = to_tensors(data.batch(positions), model, model.device)
        logits = logits_of(model(**batch))
        labels = torch.from_numpy(data.targets(positions)).to(model.device)
        labels = sampled_labels(logits.detach(), labels, batch["attention_mask"], target, draw)
        return task_loss(logits, labels, batch["attention_mask"], target, summed=True)

    return loss_of


def _refit(model: Any, dense: Any, data: Encoded, settings: FactorizeSettings, seed: int) -> list[dict[str, float]]:
    """Refit the output projections (of factors the last one) on the factorized model's own inputs, against the dense one."""
    device = pick_device(settings.device)
    batches = shuffle_batches(evaluation_batches(data.lengths, BATCH), seed)
    fitted = [to_tensors(data.batch(positions), dense, device) for positions in batches]
    model.to(device)
    dense.to(device)
    with console.progress("refitting layers", len(model_shape(dense).layers)) as advance:
        found = reconstruct(model, DenseTargets(dense, fitted), advance=advance)
    dense.to("cpu")
    return found
