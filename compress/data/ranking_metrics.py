"""Metrics of rankings, computed by trec_eval (pytrec_eval): one value per query, so that a bootstrap resamples queries.

Every function takes judgements and the ranking of each of their queries, in that order, and the unused label names. A query with an
empty ranking scores 0, as with `trec_eval -c`; documents without a judgement are not relevant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.core.errors import ResourceError
from compress.core.extras import is_installed
from compress.data.judgements import Judgements
from compress.data.rankings import DocumentRanking

QUERIES_AT_ONCE = 1_000  # as Python objects
FIRST_TEN = 10
ROUNDING = 1e-4  # far below the difference of 1/10 and 1/11
MEASURES = ("ndcg_cut_10", "recip_rank", "recall_100", "map")  # computed together, because most of the time goes into the objects


def ndcg_at_10(judgements: Judgements, rankings: Sequence[DocumentRanking], names: Sequence[str] = ()) -> np.ndarray:
    """Return DCG / ideal DCG of the first ten documents, (n, 1), DCG = sum of grade / log2(rank + 1) (Järvelin & Kekäläinen 2002)."""
    return _measured("ndcg_cut_10", judgements, rankings)


def reciprocal_rank_at_10(judgements: Judgements, rankings: Sequence[DocumentRanking], names: Sequence[str] = ()) -> np.ndarray:
    """Return 1 / rank of the first relevant document, (n, 1), 0 if it is not among the first ten."""
    reciprocal = _measured("recip_rank", judgements, rankings)
    return np.where(reciprocal < 1 / FIRST_TEN - ROUNDING, 0.0, reciprocal)


def recall_at_100(judgements: Judgements, rankings: Sequence[DocumentRanking], names: Sequence[str] = ()) -> np.ndarray:
    """Return the share of the relevant documents that are among the first hundred, (n, 1)."""
    return _measured("recall_100", judgements, rankings)


def average_precision(judgements: Judgements, rankings: Sequence[DocumentRanking], names: Sequence[str] = ()) -> np.ndarray:
    """Return the mean over the relevant documents of the precision at their ranks, (n, 1), 0 for those that were not returned."""
    return _measured("map", judgements, rankings)


def _measured(measure: str, judgements: Judgements, rankings: Sequence[DocumentRanking]) -> np.ndarray:
    """Return a measure of trec_eval for every query, (n, 1) float64.

    Raises:
        ResourceError: pytrec_eval is not installed.
    """
    if len(rankings) != len(judgements):
        raise ValueError(f"{len(rankings)} rankings of {len(judgements)} judged queries")
    if not (_latest and _latest[0].judgements is judgements and _latest[0].rankings is rankings):
        _latest[:] = [_Measured(judgements, rankings, _all_measures(judgements, rankings))]
    return _latest[0].values[:, [MEASURES.index(measure)]]


@dataclass
class _Measured:
    """The measures of some rankings, (n, measures)."""

    judgements: Judgements
    rankings: Sequence[DocumentRanking]
    values: np.ndarray


_latest: list[_Measured] = []  # the last one: the metrics of a task ask for the same rankings in turn


def _all_measures(judgements: Judgements, rankings: Sequence[DocumentRanking]) -> np.ndarray:
    """Return `MEASURES` of every query, (n, measures) float64."""
    values = np.zeros((len(judgements), len(MEASURES)))
    for start in range(0, len(judgements), QUERIES_AT_ONCE):
        block = range(start, min(start + QUERIES_AT_ONCE, len(judgements)))
        for query, of_query in _evaluate(judgements, rankings, block).items():
            values[int(query)] = [of_query[measure] for measure in MEASURES]
    return values


def _evaluate(judgements: Judgements, rankings: Sequence[DocumentRanking], block: range) -> dict[str, dict[str, float]]:
    """Return what pytrec_eval computes for a block of queries.

    Its scores are the places counted from the end: the order is decided already (`ranked`).
    """
    if not is_installed("pytrec_eval"):
        raise ResourceError(
            "metrics of rankings need the package pytrec-eval-terrier, which is not installed", "pip install pytrec-eval-terrier"
        )
    import pytrec_eval  # pyright: ignore[reportMissingTypeStubs]

    grades = {
        str(i): dict(zip(map(str, judgements.documents[i].tolist()), np.maximum(judgements.grades[i], 0).tolist(), strict=True))
        for i in block
    }
    run = {
        str(i): {str(document): float(len(rankings[i]) - place) for place, document in enumerate(rankings[i].documents.tolist())}
        for i in block
        if len(rankings[i])
    }
    return pytrec_eval.RelevanceEvaluator(grades, set(MEASURES)).evaluate(run)
