"""What a search needs to know before it starts: is the model fine-tuned, how large is the data, how fast is this machine."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from compress.core.errors import DataError
from compress.data.spec import TaskSpec
from compress.data.task import Task
from compress.data.unlabeled import read_unlabeled
from compress.inference.retriever import open_task
from compress.models.config import read_config
from compress.models.config_heads import agreed_target
from compress.models.inputs import encode_for
from compress.models.label_mapping import map_labels
from compress.models.shape import shape_of_config
from compress.search.space import BATCH, TaskFacts

HELD_BACK = 0.4  # of validation, for the verdict on a task without a test split
FEWEST = 40  # validation examples that are divided
SAMPLE = 512  # texts whose tokens are counted
ROUND = 16  # default length: the mean length, rounded up to a multiple
TIMED_SECONDS = 3.0
REFERENCE_SECONDS = 0.11  # forward pass of the reference model that `costs.PRIORS` speak of, on one batch


def with_judge(spec: TaskSpec, task: Task | None = None) -> TaskSpec:
    """Return the task with a split that judges the answer: test, or else a part of validation; judged queries are split by shares.

    Args:
        spec: of the task.
        task: the same, if it was read already.
    """
    task = task or open_task(spec)
    if task.retrieval is not None or "test" in task.available or len(task.split("validation")) < FEWEST:
        return spec
    return spec.model_copy(update={"hold_back": HELD_BACK})


def is_finetuned(folder: Path, task: Task) -> bool:
    """Return whether a model has a head that is trained for the task's labels, as `eval` decides it.

    On texts without judgements nothing can be trained by labels: an embedder's own vectors are what counts.
    """
    config = read_config(folder)
    if task.spec.compares_vectors:
        return True
    if agreed_target(config, task.spec.target) != task.spec.target:
        return False
    try:
        map_labels(config, task, folder.name)
    except DataError:  # the head has other labels
        return False
    return True


def task_facts(task: Task, folder: Path, unlabeled: str | None) -> TaskFacts:
    """Count the examples, their tokens and the model's sizes.

    Raises:
        DataError: a split that a search needs is missing.
    """
    spec = task.spec
    train, judge = task.split("train"), task.evaluation_split("auto")
    positions = np.linspace(0, len(train) - 1, min(SAMPLE, len(train)), dtype=int)
    encoded = encode_for(folder, train.take(positions), spec.input_spec)
    shape = shape_of_config(read_config(folder))
    return TaskFacts(
        target=spec.target,
        pairs=len(spec.text) > 1,
        metric=spec.main_metric,
        train=len(train),
        unlabeled=len(read_unlabeled(unlabeled, spec)) if unlabeled else 0,
        validation=len(task.split("validation")),
        judged=len(task.split(judge)),
        judge=judge,
        tokens=float(encoded.lengths.mean()),
        hidden=shape.hidden,
        layers=len(shape.layers),
    )


def usual_length(facts: TaskFacts, max_length: int) -> int:
    """Return the length at which models are timed by default."""
    return min(max(ROUND * math.ceil(facts.tokens / ROUND), ROUND), max_length)


def machine_scale(folder: Path, task: Task, tokens: float) -> float:
    """Return how slow this model is here on texts of this length, relative to the reference of `costs.PRIORS`: one batch is timed."""
    from compress.benchmark.microbenchmark import random_batch
    from compress.inference.forward import torch_forward
    from compress.models.checkpoint import load_model

    forward = torch_forward(load_model(folder, labels=task.label_names, target=task.spec.target))
    batch = random_batch(np.random.default_rng(0), read_config(folder)["vocab_size"], BATCH, max(4, round(tokens)))
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - began < TIMED_SECONDS and len(seconds) < 20):
        started = time.perf_counter()
        forward(batch)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / REFERENCE_SECONDS


def expected_scale(facts: TaskFacts) -> float:
    """Return the scale that this model and data have on an idle core: costs grow with layers, width squared and tokens."""
    return facts.layers / 6 * (facts.hidden / 384) ** 2 * facts.tokens / 32
