"""Rank a corpus for its queries with an embedder: candidates for a reranker, written as a run file or kept in the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from compress.core import artifacts, caches, digests, machine
from compress.core.disk_cache import cached_folder, is_cached
from compress.core.errors import ModelError
from compress.core.outputs import check_output_file, unwritable
from compress.data.beir import BeirSources
from compress.data.collection import Collection
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.rankings import DocumentRanking
from compress.data.retrieval import Retrieval
from compress.data.runs import write_trec_run
from compress.data.spec import MAX_CANDIDATES, TaskSpec
from compress.data.task import Task
from compress.inference.batches import run_batches
from compress.inference.corpus_search import CorpusSearch
from compress.models.config import read_config
from compress.models.inputs import input_spec_of
from compress.models.reference import digest_model, locate

TAG = "compress"
VERSION = 1
FILE = "candidates.run"
LINE_BYTES = 64  # of a run file, roughly


def open_task(spec: TaskSpec) -> Task:
    """Return a task; the candidates of its retriever, if it names one, are found when they are first needed."""
    return Task(spec, find_candidates=lambda spec: FoundCandidates(str(spec.retriever)))


@dataclass(frozen=True)
class FoundCandidates:
    """The candidates that an embedder finds for all queries of a data set, from the cache or computed and cached.

    Attributes:
        reference: the embedder: a folder, a hub id, or a builtin.

    Raises (from `digest` and `file`):
        ModelError: the model is no embedder, damaged or not supported.
        DataError: the data is malformed.
        ResourceError: the model or the data is unavailable, or the cache's disk is full.
    """

    reference: str

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"what the retriever {self.reference} found"

    @property
    def complete(self) -> bool:
        """A search finds documents for every query."""
        return True

    @cached_property
    def _folder(self) -> Path:
        return locate(self.reference)

    def digest(self, sources: BeirSources) -> str:
        """Return a digest of the embedder, its longest input, the data and the libraries that compute."""
        libraries = [machine.version_of(name) for name in ("torch", "transformers", "onnxruntime")]
        longest = embedder_spec(self._folder).max_length
        return digests.digest_json([VERSION, digest_model(self._folder), longest, sources.digest(), MAX_CANDIDATES, libraries])

    def file(self, sources: BeirSources, queries: Collection, corpus: Collection) -> str:
        """Return the path of a run file in the cache."""
        entry = caches.writable_root() / "candidates" / self.digest(sources)

        def compute(folder: Path) -> dict[str, object]:
            rankings = rank_corpus(self._folder, queries, corpus)
            write_trec_run(folder / FILE, rankings, queries, corpus, TAG)
            return {"kind": "candidates"}

        needed = 0 if is_cached(entry) else LINE_BYTES * MAX_CANDIDATES * len(queries)
        with cached_folder(entry, needed, compute, "candidates of the queries"):
            return str(entry / FILE)


def embedder_spec(folder: Path, pooling: str | None = None, hint: str = "give an embedder") -> InputSpec:
    """Return the input spec of an embedder.

    Args:
        folder: of the model.
        pooling: of an embedder whose folder does not name it.
        hint: what to give instead of another model.

    Raises:
        ModelError: the model is no embedder.
    """
    input_spec = input_spec_of(read_config(folder), artifacts.read_manifest(folder))
    if input_spec.target != "vector" and pooling is None:
        raise ModelError(f"{folder} is no embedder, and cannot search a corpus", hint)
    return replace(input_spec, target="vector")


def rank_corpus(
    folder: Path, queries: Collection, corpus: Collection, device: str = "cpu", pooling: str | None = None, check: bool = True
) -> list[DocumentRanking]:
    """Return the first candidates of every query, judged or not.

    Args:
        folder: of the embedder.
        queries: the queries.
        corpus: the documents.
        device: `auto`, `cpu` or `cuda`.
        pooling: of an embedder whose folder does not name it.
        check: compare an artifact's outputs with those that it carries.

    Raises:
        ModelError: the model is no embedder, damaged or not supported.
        ResourceError: the device is unavailable.
    """
    from compress.inference.forward import open_forward  # opens runtimes

    input_spec = embedder_spec(folder, pooling)
    forward = open_forward(folder, device, target="vector", pooling=pooling, check=check)
    search = CorpusSearch(corpus)
    encoded = search.encode(folder, Examples(queries.texts, np.zeros(len(queries), dtype=np.float32)), input_spec)
    vectors = run_batches(forward, encoded, label="encoding queries and corpus")
    return [ranking.top(MAX_CANDIDATES) for ranking in search.rankings(vectors, len(queries), folder)]


def write_candidates(
    reference: str | Path, data: str, output: Path, device: str = "cpu", pooling: str | None = None, check: bool = True
) -> tuple[int, int]:
    """Write the best documents of every query, judged or not, as a TREC run file; return the numbers of queries and candidates.

    Args:
        reference: an embedder: a folder, a hub id, or a builtin.
        data: a folder or repository in BEIR's layout.
        output: the file.
        device: `auto`, `cpu` or `cuda`.
        pooling: of an embedder whose folder does not name it.
        check: compare an artifact's outputs with those that it carries.

    Raises:
        ModelError: the model is no embedder, damaged or not supported.
        UsageError: the file cannot be written.
        DataError: the data is malformed.
        ResourceError: the device, the hub model or the data is unavailable.
    """
    check_output_file(output)
    folder = locate(reference)
    embedder_spec(folder, pooling, "give an embedder, or an encoder with its --pooling")
    retrieval = Retrieval(data, judged=False)
    rankings = rank_corpus(folder, retrieval.queries, retrieval.corpus, device, pooling, check)
    try:
        write_trec_run(output, rankings, retrieval.queries, retrieval.corpus, TAG)
    except OSError as error:
        raise unwritable(output, error) from error
    return len(rankings), sum(map(len, rankings))
