"""Methods vocab and sparse: a smaller file, and no faster model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

from compress.core import console
from compress.core.scratch import folder as scratch_folder
from compress.editing.vocabulary import prune_vocab
from compress.models.checkpoint import save_model
from compress.models.model_shape import count_params
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.sparse import SIZE_ONLY_WARNING, sparsify, zipped_bytes
from compress.results.checkpoints import PruneDocument


def write_smaller_file(context: PruneContext, output: Path) -> PruneDocument:
    """Remove unused tokens or single weights by the settings' method, write the checkpoint, and return its results."""
    dense, settings = context.dense, context.settings
    model = copy.deepcopy(dense.model)
    with scratch_folder() as scratch:
        if settings.method == "vocab":
            facts, tokenizer = _prune_tokens(context, model, scratch), scratch
        else:
            facts, tokenizer = _sparsify(context, model), dense.source
        save_model(model, output, tokenizer)
        metrics = context.validate(model, tokenizer=output)
    document = {
        "target": {},
        "method": settings.method,
        **facts,
        "predicted_speedup": 1.0,
        "measured_speedup": None,
        "params": count_params(model),
        "params_before": count_params(dense.model),
        "flops": dense.shape.flops(context.seq_len),
        "layers": dense.shape.as_json(),
        "metrics": {"validation": metrics},
    }
    return cast("PruneDocument", document)


def _prune_tokens(context: PruneContext, model: TransformersModel, tokenizer: Path) -> dict[str, int]:
    """Remove the tokens that no text of the task uses, in place, and write the smaller tokenizer; returns the counts."""
    task = context.dense.task
    texts = [text for split in task.available for text in task.model_inputs(split).texts]
    if not context.calibration.labeled:
        texts += context.calibration.examples.texts
    facts = prune_vocab(model, context.dense.source, texts, tokenizer, words=context.dense.target == "tags")
    console.info(f"  {facts['vocab_after']:,} of {facts['vocab_before']:,} tokens are used by the task's {len(texts):,} texts")
    return facts


def _sparsify(context: PruneContext, model: TransformersModel) -> dict[str, object]:
    """Zero weights in place; returns the share of zeros by role and the zipped sizes in bytes."""
    settings = context.settings
    console.warn(SIZE_ONLY_WARNING)
    zipped = zipped_bytes(model)
    with console.progress("removing weights", len(context.dense.shape.layers)) as advance:
        zeros = sparsify(model.to(context.device), context.refitter.fitted_batches, settings.pattern, settings.sparsity, advance)
    zipped_after = zipped_bytes(model.to("cpu"))
    console.info(f"  the encoder's weights, zipped: {zipped_after / zipped:.0%} of what they were")
    return {"zeros": zeros, "zipped_bytes_before": zipped, "zipped_bytes_after": zipped_after}
