"""Rank a corpus for its queries with an embedder, and write the candidates as a run file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from compress.core import artifacts
from compress.core.errors import DataError, ModelError
from compress.data.examples import Examples
from compress.data.retrieval import CANDIDATES, Retrieval
from compress.data.runs import write_trec_run
from compress.inference.batches import run_batches
from compress.inference.corpus_search import CorpusSearch
from compress.inference.forward import open_forward
from compress.models.config import read_config
from compress.models.inputs import input_spec_of
from compress.models.reference import locate

TAG = "compress"


def write_candidates(reference: str | Path, data: str, output: Path, device: str = "cpu", pooling: str | None = None) -> tuple[int, int]:
    """Write the best documents of every query, judged or not, as a TREC run file; return the numbers of queries and documents.

    Args:
        reference: an embedder: a folder, a hub id, or a builtin.
        data: a folder or repository in BEIR's layout.
        output: the file.
        device: `auto`, `cpu` or `cuda`.
        pooling: of an embedder whose folder does not name it.

    Raises:
        ModelError: the model is no embedder, damaged or not supported.
        DataError: the data is malformed, or the file cannot be written.
        ResourceError: the device, the hub model or the data is unavailable.
    """
    if not output.absolute().parent.is_dir():
        raise DataError(f"{output} cannot be written", "name a file in a folder that exists and may be written")
    folder = locate(reference)
    input_spec = input_spec_of(read_config(folder), artifacts.read_manifest(folder))
    if input_spec.target != "vector" and pooling is None:
        raise ModelError(f"{folder} is no embedder, and cannot search a corpus", "give an embedder, or an encoder with its --pooling")
    forward = open_forward(folder, device, target="vector", pooling=pooling)
    retrieval = Retrieval(data)
    search = CorpusSearch(retrieval.corpus)
    queries = Examples(retrieval.queries.texts, np.zeros(len(retrieval.queries), dtype=np.float32))
    encoded = search.encode(folder, queries, replace(input_spec, target="vector"))
    vectors = run_batches(forward, encoded, label="encoding queries and corpus")
    rankings = [ranking.top(CANDIDATES) for ranking in search.rankings(vectors, len(queries), folder)]
    try:
        write_trec_run(output, rankings, retrieval.queries, retrieval.corpus, TAG)
    except OSError as error:
        raise DataError(
            f"{output} cannot be written: {error.strerror}", "name a file in a folder that exists and may be written"
        ) from error
    return len(queries), sum(map(len, rankings))
