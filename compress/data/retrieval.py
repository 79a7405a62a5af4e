"""A retrieval data set: corpus, queries, and judgements that are split by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from compress.core import console, digests
from compress.core.errors import DataError
from compress.data.beir import BeirSources, beir_sources
from compress.data.candidate_source import CandidateSource
from compress.data.collection import Collection, read_collection
from compress.data.columns import IN_MEMORY_BYTES
from compress.data.dataset_objects import SPLITS
from compress.data.examples import Examples
from compress.data.judgements import Judgements, read_judgements, split_by_query
from compress.data.ranking_examples import cut_into_lists, query_document_texts
from compress.data.rankings import DocumentRanking
from compress.data.runs import read_trec_run
from compress.data.spec import MAX_CANDIDATES
from compress.data.splits import FEWEST, HELD_OUT

Shares = tuple[float, float, float]  # of train, validation and test
SHARES_HINT = "divide the judged queries in a task file, for example with shares: [0.6, 0.2, 0.2] (train, validation and test)"


class Retrieval:
    """Corpus, queries and judgements, read on first use.

    Args:
        data: see `beir_sources`.
        shares: divide the queries of the only split into train, validation and test; None: the splits are those of the files, and
            a tenth of the training queries becomes the validation split if there is none.
        in_memory: bytes; a corpus that takes more is streamed from its files.
        candidates: the source of each query's candidates; only for a reranker.
        depth: candidates of a query that count.
        judged: whether judgements are read; without them there are no splits.

    Raises (from any property that reads data):
        DataError: a part is missing, empty or malformed.
        ResourceError: offline and not in the cache.
    """

    def __init__(
        self, data: str | Mapping[str, object], shares: Shares | None = None, in_memory: int = IN_MEMORY_BYTES,
        candidates: CandidateSource | None = None, depth: int = MAX_CANDIDATES, judged: bool = True,
    ) -> None:  # fmt: skip
        self._has_judgements = judged
        self._data, self._shares, self._in_memory, self._source, self._depth = data, shares, in_memory, candidates, depth
        self._read: dict[str, Judgements] = {}

    @cached_property
    def sources(self) -> BeirSources:
        """Where the parts come from."""
        return beir_sources(self._data, self._has_judgements)

    @cached_property
    def corpus(self) -> Collection:
        """The documents."""
        return read_collection(self.sources.corpus, self._in_memory)

    @cached_property
    def queries(self) -> Collection:
        """The queries of all splits."""
        return read_collection(self.sources.queries, self._in_memory)

    @property
    def available(self) -> list[str]:
        """The splits that have judgements."""
        if self._shares:
            return [split for split, share in zip(SPLITS, self._shares, strict=True) if share]
        given = self.sources.judgements
        return [split for split in SPLITS if split in given or (split == "validation" and "train" in given)]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data and of how it is split."""
        run = {"run": self._source.digest(self.sources)} if self._source else {}
        return digests.digest_json({"data": self.sources.digest(), "shares": self._shares, **run})

    @cached_property
    def _rankings(self) -> list[DocumentRanking]:
        if self._source is None:
            return []
        return read_trec_run(self._source.file(self.sources, self.queries, self.corpus), self.queries, self.corpus)

    def candidates(self, split: str) -> list[DocumentRanking]:
        """Return the first candidates of each judged query of a split, for a reranker.

        Raises:
            DataError: no run was given, it is malformed, or it has no candidates of any of these queries.
        """
        if self._source is None:
            raise DataError("there are no candidates to rank", "give a run file with --run, or an embedder with --retriever")
        candidates = [self._rankings[query].top(self._depth) for query in self.judgements(split).queries.tolist()]
        lacking = sum(not len(ranking) for ranking in candidates)
        if lacking == len(candidates):
            raise DataError(f"{self._source.where} has no candidates of the queries of the {split} split", "give the run of these queries")
        if lacking:
            effect = "" if split == "train" else ": they score 0"
            console.once(f"{lacking} of {len(candidates)} {split} queries have no candidates in {self._source.where}{effect}")
        return candidates

    def examples(self, split: str) -> Examples:
        """Return the judged queries of a split with their judgements; see `judgements` for errors."""
        judgements = self.judgements(split)
        return Examples(self.queries.take(judgements.queries), judgements)

    def candidate_pairs(self, split: str) -> Examples:
        """Return each judged query with each of its candidates; labels are their grades, (n,) float32, 0 without a judgement."""
        return self._pairs(self.judgements(split), self.candidates(split))

    @cached_property
    def unjudged(self) -> list[int]:
        """The queries that have candidates and are judged in no split: training data without labels."""
        judged = self._judged
        return [query for query, ranking in enumerate(self._rankings) if query not in judged and len(ranking)]

    @property
    def has_unjudged(self) -> bool:
        """Whether `unjudged` has queries; no retriever searches for the answer."""
        if self._source is not None and self._source.complete:
            return len(self._judged) < len(self.queries)
        return bool(self.unjudged)

    @cached_property
    def _judged(self) -> set[int]:
        """The queries that are judged in any split."""
        return {query for split in self.available for query in self.judgements(split).queries.tolist()}

    def training_pairs(self) -> Examples:
        """Return the pairs of the train split; if it has no judgements, those of `unjudged`.

        Raises:
            DataError: there are neither.
        """
        return self._pairs(*self._training_candidates())

    def training_lists(self, size: int, count: int | None, seed: int) -> Examples:
        """Return the same pairs in lists of `size` candidates of one query, each list next to each other; see `cut_into_lists`.

        Args:
            size: candidates in a list.
            count: lists at most, drawn with the seed; None: all.
            seed: of the draws.

        Raises:
            DataError: as `training_pairs` raises it.
        """
        judgements, candidates = self._training_candidates()
        rng = np.random.default_rng(seed)
        lists = cut_into_lists([len(ranking) for ranking in candidates], size, rng)
        if count is not None and count < len(lists):
            lists = lists[np.sort(rng.permutation(len(lists))[:count])]
        return self._pairs(judgements, candidates).take(lists.ravel())

    def _training_candidates(self) -> tuple[Judgements, list[DocumentRanking]]:
        """Return the judgements and the candidates of the training queries."""
        if "train" in self.available:
            return self.judgements("train"), self.candidates("train")
        if not self.unjudged:
            where = f" in {self._source.where}" if self._source else ""
            raise DataError(
                f"there are no training judgements, and no candidates of queries without judgements{where}",
                SHARES_HINT,
            )
        nothing = [np.zeros(0, dtype=np.int64)] * len(self.unjudged)
        judgements = Judgements(self.corpus, np.array(self.unjudged), nothing, nothing)
        return judgements, [self._rankings[query].top(self._depth) for query in self.unjudged]

    def _pairs(self, judgements: Judgements, candidates: Sequence[DocumentRanking]) -> Examples:
        """Return each query with each of its candidates, and their grades."""
        documents = [ranking.documents for ranking in candidates]
        texts = query_document_texts(self.queries.take(judgements.queries), documents, self.corpus)
        return Examples(texts, np.concatenate([judgements.grades_of(row, of_query) for row, of_query in enumerate(documents)]))

    def judgements(self, split: str) -> Judgements:
        """Return the judgements of `train`, `validation` or `test`.

        Raises:
            DataError: there are none, or the shares do not fit.
        """
        if split not in self.available:
            only = f"; it has: {', '.join(self.available)}"
            raise DataError(f"there are no judgements of the {split} split{only}", SHARES_HINT if len(self.available) == 1 else None)
        if split not in self._read:
            self._load(split)
        return self._read[split]

    def _load(self, split: str) -> None:
        """Load a split, and those that it is divided from."""
        if self._shares:
            self._read |= self._divided(self._shares)
        elif split in self.sources.judgements and (split != "train" or "validation" in self.sources.judgements):
            self._read[split] = self._of_file(split)
        else:
            train = self._of_file("train")
            if len(train) < FEWEST:
                raise DataError("too few training queries to hold out a validation split", "give the judgements of one, qrels/dev.tsv")
            self._read |= split_by_query(train, self.queries.ids, {"train": 1 - HELD_OUT, "validation": HELD_OUT})
            held_out = len(self._read["validation"])
            console.once(f"no validation judgements: {held_out} of {len(train)} training queries are held out for them")

    def _divided(self, shares: Shares) -> dict[str, Judgements]:
        if len(self.sources.judgements) > 1:
            raise DataError(
                f"the judgements are split already ({', '.join(self.sources.judgements)}), and shares were given to split them",
                "leave the shares out",
            )
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise DataError(f"the shares {', '.join(f'{share:g}' for share in shares)} do not add up to 1", "for example 0.6, 0.2 and 0.2")
        (split,) = self.sources.judgements
        parts = {name: share for name, share in zip(SPLITS, shares, strict=True) if share}
        return split_by_query(self._of_file(split), self.queries.ids, parts)

    def _of_file(self, split: str) -> Judgements:
        source = self.sources.judgements[split]
        judgements = read_judgements(source, self.queries, self.corpus)
        if left_out := judgements.without_relevant:
            count = f"{left_out} of {left_out + len(judgements)} judged queries of {source.where}"
            console.once(f"{count} have no relevant document: they are left out")
        return judgements
