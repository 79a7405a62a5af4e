"""Folders, repositories and objects in BEIR's layout."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from compress.core.errors import DataError, ResourceError
from compress.data.beir import beir_sources
from compress.data.retrieval import Retrieval
from tests.unit.data.retrieval_files import DOCUMENTS, GRADES, QUERIES, write_beir

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


def contents(data: object) -> list[object]:
    """What is read of a data set."""
    read = Retrieval(data)  # pyright: ignore[reportArgumentType]
    judgements = read.judgements("test")
    return [read.corpus.ids, list(read.corpus.texts), read.queries.ids, list(read.queries.texts), judgements.queries.tolist()]


def objects() -> dict[str, object]:
    corpus = {key: [row[column] for row in DOCUMENTS] for column, key in enumerate(("_id", "title", "text"))}
    queries = {key: [row[column] for row in QUERIES] for column, key in enumerate(("_id", "text"))}
    grades = {key: [row[column] for row in GRADES] for column, key in enumerate(("query-id", "corpus-id", "score"))}
    made = {name: datasets.Dataset.from_dict(rows) for name, rows in (("corpus", corpus), ("queries", queries), ("qrels", grades))}
    return {**made, "qrels": datasets.DatasetDict({"test": made["qrels"]})}


def hub_folder(root: Path, repo: str) -> Path:
    """An empty snapshot of a repository in a hub cache."""
    folder = root / f"datasets--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    return folder / "snapshots" / COMMIT


def test_folder_shards_and_objects_are_read_alike(tmp_path: Path) -> None:
    expected = contents(str(write_beir(tmp_path / "a")))
    given = objects()
    assert contents(given) == expected
    shards = tmp_path / "b"
    (shards / "corpus").mkdir(parents=True)
    (shards / "qrels").mkdir()
    given["corpus"].to_parquet(shards / "corpus" / "corpus-00000-of-00001.parquet")  # pyright: ignore[reportAttributeAccessIssue]
    given["queries"].to_json(shards / "queries.jsonl")  # pyright: ignore[reportAttributeAccessIssue]
    given["qrels"]["test"].to_parquet(shards / "qrels" / "test-00000-of-00001.parquet")  # pyright: ignore[reportIndexIssue]
    assert contents(str(shards)) == expected


def test_repositories_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(root))
    write_beir(hub_folder(root, "mteb/tiny"))
    assert contents("mteb/tiny") == contents(str(write_beir(tmp_path / "a")))
    together = write_beir(hub_folder(root, "BeIR/tiny"))
    judgements = hub_folder(root, "BeIR/tiny-qrels")
    (together / "qrels" / "test.tsv").rename(judgements / "test.tsv")
    (together / "qrels").rmdir()
    (judgements / "README.md").touch()
    assert contents("BeIR/tiny") == contents("mteb/tiny")
    assert contents("BeIR/tiny@main") == contents("mteb/tiny")
    (judgements / "test.tsv").unlink()
    with pytest.raises(DataError, match="has no judgements"):
        beir_sources("BeIR/tiny")
    with pytest.raises(ResourceError, match="offline, and the dataset BeIR/none is not in the cache"):
        beir_sources("BeIR/none")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder .*nowhere"):
        beir_sources(str(tmp_path / "nowhere"))
    folder = write_beir(tmp_path / "a")
    (folder / "queries.jsonl").rename(folder / "query.jsonl")
    with pytest.raises(DataError, match=r"a has no queries\.jsonl"):
        beir_sources(str(folder))
    (folder / "query.jsonl").rename(folder / "queries.jsonl")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "all.tsv")
    with pytest.raises(DataError, match=r"a has no judgements \(qrels/train\.tsv, dev\.tsv or test\.tsv\)"):
        beir_sources(str(folder))
    given = objects()
    with pytest.raises(DataError, match="the retrieval data has no 'qrels'"):
        beir_sources({name: given[name] for name in ("corpus", "queries")})
    with pytest.raises(DataError, match="'corpus' is no datasets.Dataset but list"):
        beir_sources({**given, "corpus": []})
    with pytest.raises(DataError, match="'qrels': data must be"):
        beir_sources({**given, "qrels": []})


def test_the_digest_follows_contents(tmp_path: Path) -> None:
    first, second = beir_sources(str(write_beir(tmp_path / "a"))), beir_sources(str(write_beir(tmp_path / "b")))
    assert first.digest() == second.digest()
    (tmp_path / "b" / "queries.jsonl").write_text('{"_id": "q1", "text": "other"}\n', encoding="utf-8")
    assert first.digest() != second.digest()
    given = objects()
    assert beir_sources(given).digest() == beir_sources(objects()).digest()
    other = given["corpus"].select([0, 1])  # pyright: ignore[reportAttributeAccessIssue]
    assert beir_sources(given).digest() != beir_sources({**given, "corpus": other}).digest()
