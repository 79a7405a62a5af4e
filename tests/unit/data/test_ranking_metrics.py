"""Metrics of rankings: by hand, and against an independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compress.data import ranking_metrics
from compress.data.collection import Collection
from compress.data.judgements import Judgements
from compress.data.metrics import METRICS, compute
from compress.data.rankings import NOTHING, DocumentRanking, ranked

NAMES = ["ndcg@10", "mrr@10", "recall@100", "map"]


def corpus_of(size: int, ids: list[str] | None = None) -> Collection:
    return Collection(ids or [str(number) for number in range(size)], [("text",)] * size, "corpus")


def judged(corpus: Collection, *grades: dict[int, int]) -> Judgements:
    documents = [np.array(list(of_query), dtype=np.int64) for of_query in grades]
    return Judgements(corpus, np.arange(len(grades)), documents, [np.array(list(of_query.values())) for of_query in grades])


def ranking(*documents: int) -> DocumentRanking:
    return DocumentRanking(np.array(documents, dtype=np.int64), -np.arange(len(documents), dtype=np.float32))


def test_a_ranking_by_hand() -> None:
    """Grades 3, 2, 1 of documents 0, 1, 2; ranked as 2, 7, 0 (1 is absent)."""
    judgements = judged(corpus_of(8), {0: 3, 1: 2, 2: 1, 7: 0})
    dcg = 1 / math.log2(2) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    scores = compute(NAMES, judgements, [ranking(2, 7, 0)])
    assert scores == pytest.approx({"ndcg@10": dcg / ideal, "mrr@10": 1.0, "recall@100": 2 / 3, "map": (1 / 1 + 2 / 3) / 3})


def test_cuts_by_hand() -> None:
    """One relevant document at rank 10, 11, 100 and 101; negative grades and absent judgements are not relevant."""
    judgements = judged(corpus_of(200), *[{150: 1, 0: -1}] * 4)
    rankings = [ranking(*range(place - 1), 150, *range(151, 190)) for place in (10, 11, 100, 101)]
    assert METRICS["ndcg@10"].rows(judgements, rankings, ()).ravel() == pytest.approx([1 / math.log2(11), 0, 0, 0])
    assert METRICS["mrr@10"].rows(judgements, rankings, ()).ravel() == pytest.approx([1 / 10, 0, 0, 0])
    assert METRICS["recall@100"].rows(judgements, rankings, ()).ravel().tolist() == [1, 1, 1, 0]
    assert METRICS["map"].rows(judgements, rankings, ()).ravel() == pytest.approx([1 / 10, 1 / 11, 1 / 100, 1 / 101])


def test_a_query_without_documents_scores_zero_and_counts() -> None:
    judgements = judged(corpus_of(3), {0: 1}, {1: 1})
    assert compute(NAMES, judgements, [ranking(0), NOTHING]) == {"ndcg@10": 0.5, "mrr@10": 0.5, "recall@100": 0.5, "map": 0.5}
    assert compute(NAMES, judgements, [NOTHING, NOTHING]) == dict.fromkeys(NAMES, 0.0)
    with pytest.raises(ValueError, match="1 rankings of 2 judged queries"):
        compute(NAMES, judgements, [NOTHING])


def independent(grades: dict[str, int], scores: dict[str, float]) -> dict[str, float]:
    """The metrics straight from their definitions, in trec_eval's order."""
    order = sorted(scores, key=lambda name: (np.float32(scores[name]), name.encode()), reverse=True)
    gains = [max(0, grades.get(name, 0)) for name in order]
    relevant = sum(grade > 0 for grade in grades.values())
    hits = [gain > 0 for gain in gains]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    first = hits[:10].index(True) + 1 if any(hits[:10]) else math.inf
    discounted = [sum(gain / math.log2(place + 2) for place, gain in enumerate(side[:10])) for side in (gains, ideal)]
    return {
        "ndcg@10": discounted[0] / discounted[1],
        "mrr@10": 1 / first,
        "recall@100": sum(hits[:100]) / relevant,
        "map": sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit) / relevant,
    }


def test_a_thousand_random_rankings_with_ties() -> None:
    """Against the definitions, and against pytrec_eval when it sorts by scores and ids itself."""
    import pytrec_eval  # pyright: ignore[reportMissingTypeStubs]

    rng = np.random.default_rng(0)
    ids = [f"{prefix}{number}" for number in range(75) for prefix in ("d", "é")]
    corpus = corpus_of(150, ids)
    grades, rankings, runs = [], [], []
    for _ in range(1000):
        some = rng.choice(150, rng.integers(1, 30), replace=False)
        of_query = dict(zip(some.tolist(), rng.integers(-1, 4, len(some)).tolist(), strict=True))
        grades.append({**of_query, int(some[0]): 1})
        returned = rng.choice(150, rng.integers(0, 150), replace=False)
        scores = rng.integers(0, 5, len(returned)) / 7
        rankings.append(ranked(returned, scores, corpus.ranks))
        runs.append({ids[document]: float(np.float32(score)) for document, score in zip(returned, scores, strict=True)})
    judgements = judged(corpus, *grades)
    named = [{ids[document]: grade for document, grade in of_query.items()} for of_query in grades]
    expected = [independent(*pair) for pair in zip(named, runs, strict=True)]
    for name in NAMES:
        rows = METRICS[name].rows(judgements, rankings, ())
        np.testing.assert_allclose(rows[:, 0], [of_query[name] for of_query in expected], atol=1e-12)
    relevant = {str(i): {name: max(0, grade) for name, grade in of_query.items()} for i, of_query in enumerate(named)}
    sorted_there = pytrec_eval.RelevanceEvaluator(relevant, {"map"}).evaluate({str(i): run for i, run in enumerate(runs) if run})
    rows = METRICS["map"].rows(judgements, rankings, ())[:, 0]
    np.testing.assert_allclose(rows, [sorted_there[str(i)]["map"] if run else 0 for i, run in enumerate(runs)], atol=1e-12)


def test_many_queries_are_evaluated_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.data import ranking_metrics

    judgements = judged(corpus_of(5), *[{number % 5: 1} for number in range(7)])
    rankings = [ranking(0, 1, 2)] * 7
    whole = METRICS["map"].rows(judgements, rankings, ())
    monkeypatch.setattr(ranking_metrics, "QUERIES_AT_ONCE", 3)
    np.testing.assert_array_equal(METRICS["map"].rows(judgements, rankings, ()), whole)


def test_metrics_of_the_same_rankings_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    judgements, calls = judged(corpus_of(8), {0: 3}), []
    evaluate = ranking_metrics._evaluate
    monkeypatch.setattr(ranking_metrics, "_evaluate", lambda *given: calls.append(given) or evaluate(*given))
    for rankings in ([ranking(2, 0)], [ranking(0, 2)]):
        compute(NAMES, judgements, rankings)
    assert len(calls) == 2
