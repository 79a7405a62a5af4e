"""Texts per second over a corpus at its own lengths, tokenization included: every model encodes the same texts, in turns.

The texts are sorted by their number of characters and cut into groups, as encoders of a corpus do it. Groups are timed in random order,
so that those timed before the time is over are a random part of the corpus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compress.benchmark import statistics
from compress.benchmark.grid import PYTORCH, Candidate
from compress.benchmark.interleaving import MIN_ROUNDS
from compress.benchmark.runners import Runner
from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.encoding import encode_examples
from compress.data.examples import Examples
from compress.data.sentence_texts import single_texts
from compress.data.task import Task
from compress.inference.artifact import BATCH_TOKENS
from compress.models.config import longest_input, read_config
from compress.models.inputs import prompts_of
from compress.models.tokenizer import load_tokenizer, pad_id
from compress.results.measurements import CorpusEntry

GROUP = 32  # texts that are encoded at once, as sentence-transformers does by default
MAX_TEXTS = 4096  # of a corpus, drawn at random

Encoder = Callable[[Examples], Encoded]


@dataclass(frozen=True)
class CorpusRunner:
    """Encodes texts with a model: tokenizes them, and runs them in batches of similar lengths.

    Attributes:
        encode: tokenizes.
        runner: runs a padded batch.
        max_tokens: of a batch, padding included; an artifact bounds them, as `OnnxModel` does.
    """

    encode: Encoder
    runner: Runner
    max_tokens: int | None

    def seconds(self, texts: Examples) -> float:
        """Encode texts and return the seconds."""
        start = time.perf_counter()
        data = self.encode(texts)
        for positions in evaluation_batches(data.lengths, GROUP, self.max_tokens):
            self.runner.seconds(self.runner.prepare(data.batch(positions)))
        return time.perf_counter() - start


def corpus_groups(task: Task, seed: int) -> list[Examples]:
    """Return random texts of a task's corpus, or if it has none of its evaluation split, in groups of similar lengths."""
    if task.retrieval is not None and task.spec.target == "vector":
        texts: Sequence[tuple[str, ...]] = task.retrieval.corpus.texts
        examples = Examples(texts, np.zeros(len(texts), dtype=np.float32))
    else:
        examples = task.model_inputs(task.evaluation_split())
        if task.spec.target == "vector":
            examples = single_texts(examples)  # an embedder reads the two texts of a pair one by one
    count = min(len(examples), MAX_TEXTS)
    drawn = examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False)))
    order = np.argsort([sum(map(len, text)) for text in drawn.texts], kind="stable")
    return [drawn.take(order[start : start + GROUP]) for start in range(0, count, GROUP)]


def corpus_runner(candidate: Candidate, runner: Runner, task: Task) -> CorpusRunner:
    """Return what encodes texts with a candidate; each uses its own tokenizer, prompt and longest input."""
    config, target = read_config(candidate.folder), task.spec.target
    tokenizer, padding_id = load_tokenizer(candidate.folder, candidate.vocab_size), pad_id(candidate.folder)
    input_spec = replace(task.spec.input_spec, max_length=min(task.spec.max_length, longest_input(config, target)))
    prompts = prompts_of(config, input_spec)  # of the documents, if the task has some

    def encode(texts: Examples) -> Encoded:
        return encode_examples(tokenizer, single_texts(texts, prompts) if target == "vector" else texts, input_spec, padding_id)

    return CorpusRunner(encode, runner, None if candidate.runtime == PYTORCH else BATCH_TOKENS)


def time_corpus(
    runners: Mapping[str, CorpusRunner], groups: Sequence[Examples], seconds: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Time every runner on groups of texts, in random order of both; returns the seconds of each, (groups,).

    Args:
        runners: by name.
        groups: from `corpus_groups`.
        seconds: stop after this time, but not before `MIN_ROUNDS` groups.
        rng: for the orders.

    Returns:
        The groups that were timed, (timed,), then the seconds of each runner in their order.
    """
    names = list(runners)
    for name in names:
        runners[name].seconds(groups[0])  # warms up
    samples: dict[str, list[float]] = {name: [] for name in names}
    order, deadline = rng.permutation(len(groups)), time.monotonic() + seconds
    with console.progress("the corpus", len(groups)) as advance:
        for number, group in enumerate(order):
            for position in rng.permutation(len(names)):
                samples[names[position]].append(runners[names[position]].seconds(groups[group]))
            advance()
            if number + 1 >= MIN_ROUNDS and time.monotonic() > deadline:
                break
    return [order[: len(samples[names[0]])], *(np.array(samples[name]) for name in names)]


def corpus_entries(
    candidates: Sequence[Candidate], runners: Mapping[str, Runner], task: Task, groups: Sequence[Examples], threads: int, seconds: float,
    rng: np.random.Generator,
) -> list[CorpusEntry]:  # fmt: skip
    """Return the throughput of every candidate.

    Args:
        candidates: the models; the first is the baseline.
        runners: of the candidates, by name.
        task: of the texts.
        groups: from `corpus_groups`.
        threads: that the runners use.
        seconds: limit of time.
        rng: for the orders.
    """
    encoders = {c.name: corpus_runner(c, runners[c.name], task) for c in candidates}
    timed, *times = time_corpus(encoders, groups, seconds, rng)
    texts = sum(len(groups[group]) for group in timed)
    tokens = float(np.mean(np.concatenate([encoders[candidates[0].name].encode(groups[group]).lengths for group in timed])))
    entries: list[CorpusEntry] = []
    for candidate, of_model in zip(candidates, times, strict=True):
        ratio, interval = throughput_ratio(times[0], of_model)
        entries.append(
            {
                "model": candidate.name,
                "runtime": candidate.runtime,
                "precision": candidate.precision,
                "threads": threads,
                "texts": texts,
                "tokens": round(tokens, 1),
                "texts_per_s": texts / float(of_model.sum()),
                "speedup": {"vs": candidates[0].name, "ratio": ratio, "ci95": list(interval)},
            }
        )
    return entries


def throughput_ratio(baseline: np.ndarray, candidate: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return how many times as many texts per second a candidate encodes, with a bootstrap interval over groups.

    Args:
        baseline: the baseline's seconds of each group, (groups,).
        candidate: the candidate's.
    """
    interval = statistics.bootstrap_interval(lambda picked: float(baseline[picked].sum() / candidate[picked].sum()), len(baseline))
    return float(baseline.sum() / candidate.sum()), interval
