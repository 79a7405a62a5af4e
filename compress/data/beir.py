"""Find the files of a retrieval data set in BEIR's layout (Thakur et al. 2021, arXiv 2104.08663).

A folder or a dataset repository holds `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`; each may also be another kind of
table, or a folder of shards. Repositories may keep their judgements in `NAME-qrels`, as the hub's `BeIR/scifact` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compress.core import console, digests, hub
from compress.core.errors import DataError, ResourceError
from compress.data.collection import ID_COLUMNS, TEXT, TITLE
from compress.data.dataset_objects import dataset_splits, is_dataset
from compress.data.judgements import COLUMNS
from compress.data.local_sources import SPLIT_NAMES, local_source
from compress.data.sources import DatasetSource, FileSource, Source
from compress.data.tables import FORMATS

LAYOUT = "BEIR's layout is corpus.jsonl, queries.jsonl and qrels/test.tsv in one folder"
REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class BeirSources:
    """Where corpus, queries and the judgements of each split come from."""

    corpus: Source
    queries: Source
    judgements: dict[str, Source]

    def digest(self) -> str:
        """Return a digest that changes with the contents."""
        texts = [*ID_COLUMNS, TEXT, TITLE]
        return digests.digest_json(
            {
                "corpus": self.corpus.digest(texts),
                "queries": self.queries.digest(texts),
                "judgements": {split: source.digest(COLUMNS) for split, source in self.judgements.items()},
            }
        )


def beir_sources(data: str | Mapping[str, object], judged: bool = True) -> BeirSources:
    """Find a retrieval data set.

    Args:
        data: a folder; a dataset repository, `owner/name` or `owner/name@revision`; or a mapping with `corpus` and `queries`, each a
            `datasets.Dataset`, and `qrels`, a `Dataset` or `DatasetDict`.
        judged: it must have judgements; else none are looked for.

    Raises:
        DataError: no such folder or repository, or one of its parts is missing.
        ResourceError: offline and not in the cache, or the hub cannot be reached.
    """
    if not isinstance(data, str):
        return _from_objects(data)
    if Path(data).is_dir():
        return _from_folder(Path(data), judged)
    repository = REPOSITORY.fullmatch(data)
    if not repository or Path(data).parent.is_dir():
        raise DataError(f"there is no folder {data}", LAYOUT)
    return _from_hub(repository["repo"], repository["revision"], judged)


def _from_objects(data: Mapping[str, object]) -> BeirSources:
    for name in ("corpus", "queries", "qrels"):
        if name not in data:
            raise DataError(f"the retrieval data has no '{name}'", "give {'corpus': Dataset, 'queries': Dataset, 'qrels': DatasetDict}")
    sources: dict[str, Source] = {}
    for name in ("corpus", "queries"):
        dataset = data[name]
        if not is_dataset(dataset):
            raise DataError(f"'{name}' is no datasets.Dataset but {type(dataset).__name__}", "save it to a file, or load one split of it")
        sources[name] = DatasetSource(dataset, name)
    try:
        splits = dataset_splits(data["qrels"])
    except ValueError as error:
        raise DataError(f"'qrels': {error}") from error
    return BeirSources(sources["corpus"], sources["queries"], {name: DatasetSource(split, name) for name, split in splits.items()})


def _from_folder(folder: Path, judged: bool) -> BeirSources:
    return BeirSources(_table(folder, "corpus"), _table(folder, "queries"), _judgements(folder / "qrels", folder) if judged else {})


def _from_hub(repo: str, revision: str | None, judged: bool) -> BeirSources:
    folder = hub.snapshot(repo, "dataset", revision, ["corpus*", "queries*", "qrels/*"])
    if not judged or (folder / "qrels").is_dir():
        return _from_folder(folder, judged)
    try:
        judgements = hub.snapshot(f"{repo}-qrels", "dataset", None, ["*.tsv", "*.jsonl", "*.parquet"])
    except (DataError, ResourceError) as error:
        raise DataError(f"{repo} has no folder qrels, and {repo}-qrels cannot be read: {error.message}", LAYOUT) from error
    return BeirSources(_table(folder, "corpus"), _table(folder, "queries"), _judgements(judgements, judgements))


def _table(folder: Path, name: str) -> Source:
    """Return the table of this name in a folder: a file, or a folder of shards."""
    for ending, kind in FORMATS.items():
        for path in (folder / f"{name}{ending}", folder / f"{name}{ending}.gz"):
            if kind != "conll" and path.is_file():
                return FileSource((path,))
    if not (folder / name).is_dir():
        raise DataError(f"{folder} has no {name}.jsonl", LAYOUT)
    return local_source(str(folder / name / "*.*"), "test")


def _judgements(folder: Path, where: Path) -> dict[str, Source]:
    """Return the judgements of each split by the names of the files."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")) if folder.is_dir() else []
    sources: dict[str, Source] = {}
    for split, marks in SPLIT_NAMES.items():
        of_split = tuple(path for path in files if re.split(r"[.-]", path.name.lower())[0] in marks and _is_table(path))
        if of_split:
            sources[split] = FileSource(of_split)
    if not sources:
        raise DataError(f"{where} has no judgements (qrels/train.tsv, dev.tsv or test.tsv)", LAYOUT)
    unused = [path.name for path in files if not any(path in source.paths for source in sources.values() if isinstance(source, FileSource))]
    if unused and folder.name == "qrels":
        console.warn_once(f"these judgements are not used: {', '.join(unused)}; names start with train, dev or test")
    return sources


def _is_table(path: Path) -> bool:
    ending = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    return FORMATS.get(ending.lower(), "conll") != "conll"
