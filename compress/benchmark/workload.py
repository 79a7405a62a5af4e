"""The inputs of a cell: random tokens of a fixed length, or the task's own texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compress.benchmark.grid import Candidate, Cell
from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.runners import ArrayBatch, Runner, TokenizingRunner
from compress.data.encoding import encode_examples
from compress.data.examples import Examples
from compress.data.sentence_texts import single_texts
from compress.data.task import Task
from compress.models.config import longest_input, read_config
from compress.models.inputs import prompts_of
from compress.models.tokenizer import load_tokenizer, pad_id
from compress.settings import BenchSettings

DISTINCT_BATCHES = 64  # batches of real texts that the rounds take in turn
CONTROL = "A/A control"
PADDED = "padded to the longest"


@dataclass(frozen=True)
class Workload:
    """The runners of a cell, the control among them, the prepared batches of each, and their mean number of tokens."""

    runners: dict[str, Runner]
    batches: dict[str, Sequence[object]]
    tokens: int


def random_workload(candidates: Sequence[Candidate], runners: dict[str, Runner], cell: Cell, rng: np.random.Generator) -> Workload:
    """Return the workload of a cell with a fixed length: one batch of random tokens for all candidates."""
    length = cell.seq_len or 0
    runners = {**runners, CONTROL: runners[candidates[0].name]}
    batch = random_batch(rng, min(candidate.vocab_size for candidate in candidates), cell.batch_size, length)
    return Workload(runners, {name: [runner.prepare(batch)] for name, runner in runners.items()}, length)


def sample_texts(task: Task, settings: BenchSettings) -> Examples:
    """Draw the texts of all batches from the task's evaluation split; an embedder reads the two texts of a pair one by one."""
    examples = task.model_inputs(task.evaluation_split())
    if task.spec.target == "vector":
        examples = single_texts(examples)
    count = DISTINCT_BATCHES * max(settings.batch_size)
    return examples.take(np.random.default_rng(0).integers(0, len(examples), count))


def task_workload(
    candidates: Sequence[Candidate], runners: dict[str, Runner], cell: Cell, task: Task, examples: Examples, tokenize: bool
) -> Workload:
    """Return the workload of a cell with the task's own texts.

    Each candidate gets batches from its own tokenizer, padded to the longest text of the batch. The last one also runs on
    batches padded to the task's limit, which shows what padding costs.

    Args:
        candidates: the models.
        runners: of the candidates, by name.
        cell: with the batch size.
        task: of the texts.
        examples: from `sample_texts`.
        tokenize: time tokenization too.
    """
    first, last = candidates[0].name, candidates[-1].name
    batches: dict[str, Sequence[object]] = {}
    runners, tokens = {**runners, CONTROL: runners[first]}, 0.0
    size = cell.batch_size
    groups = [examples.take(range(start, start + size)) for start in range(0, DISTINCT_BATCHES * size, size)]
    for candidate in candidates:
        name, runner = candidate.name, runners[candidate.name]
        limit = min(task.spec.max_length, longest_input(read_config(candidate.folder), task.spec.target))
        padding_id = pad_id(candidate.folder)
        encode = _encoder(candidate, task, limit, padding_id)
        encoded = [encode(group) for group in groups]
        tokens = tokens or float(np.mean([batch["attention_mask"].sum(1).mean() for batch in encoded]))
        if tokenize:
            runners[name], batches[name] = TokenizingRunner(encode, runner), groups
            continue
        batches[name] = [runner.prepare(batch) for batch in encoded]
        if name == last:
            runners[PADDED] = runner
            batches[PADDED] = [runner.prepare(pad_batch(batch, limit, padding_id)) for batch in encoded]
    runners[CONTROL], batches[CONTROL] = runners[first], batches[first]
    return Workload(runners, batches, round(tokens))


def _encoder(candidate: Candidate, task: Task, limit: int, padding_id: int) -> Callable[[Examples], ArrayBatch]:
    """Return a function that tokenizes texts for a candidate into one padded batch."""
    tokenizer = load_tokenizer(candidate.folder, candidate.vocab_size)
    input_spec = replace(task.spec.input_spec, max_length=limit)
    prompts = prompts_of(read_config(candidate.folder), input_spec) if input_spec.target == "vector" else None

    def encode(texts: Examples) -> ArrayBatch:
        if prompts is not None:
            texts = single_texts(texts, prompts)
        data = encode_examples(tokenizer, texts, input_spec, padding_id)
        return data.batch(range(len(data)))

    return encode


def pad_batch(batch: ArrayBatch, length: int, padding_id: int) -> ArrayBatch:
    """Return a batch padded further on the right, to (batch, length)."""
    fill = {"input_ids": padding_id}
    return {
        name: np.pad(array, ((0, 0), (0, max(0, length - array.shape[1]))), constant_values=fill.get(name, 0))
        for name, array in batch.items()
    }
