"""Files as streams of rows: nothing is guessed, nothing is copied, nothing is imported before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compress.core.errors import DataError
from compress.data.tables import (
    BATCH_ROWS,
    class_label_names,
    column_names,
    existing_file,
    read_batches,
    recorded_class_names,
    uncompressed_size,
)


def rows_of(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    return [row for batch in read_batches(path, columns) for row in zip(*batch.values(), strict=True)]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_every_cell_is_text(tmp_path: Path, ending: str) -> None:
    cells = [("NA", "01"), ("null", "1.0"), ("", "True"), ('say "x", no', " pad "), ("line\nbreak", "2020-01-01"), ("-", "1e5")]
    pd.DataFrame(cells, columns=["a", "b"]).to_csv(tmp_path / f"x.{ending}", index=False, sep="\t" if ending == "tsv" else ",")
    assert rows_of(tmp_path / f"x.{ending}", "a", "b") == cells


def test_json_keeps_its_types(tmp_path: Path) -> None:
    values = [0, "0", 0.5, None, True, [1, "a"], {"x": 1}, "NA", 2**40, "\u2028"]
    lines = [json.dumps({"text": "t", "label": value, "more": number}) for number, value in enumerate(values)]
    (tmp_path / "x.jsonl").write_text("\n\n".join(lines) + "\n\n", encoding="utf-8")
    assert [label for (label,) in rows_of(tmp_path / "x.jsonl", "label")] == values


def test_json_rows_may_lack_keys(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"b": 2}\n', encoding="utf-8")
    assert column_names(tmp_path / "x.jsonl") == ["a", "b"]
    assert rows_of(tmp_path / "x.jsonl", "b", "a") == [(None, 1), (2, None)]


def test_parquet_reads_only_the_columns_that_are_named(tmp_path: Path) -> None:
    table = pa.table({"t": pa.array(["a", "b", None]).dictionary_encode(), "n": [1, 2, 3], "odd": pa.array([[b"x"]] * 3)})
    pq.write_table(table, tmp_path / "x.parquet")
    assert rows_of(tmp_path / "x.parquet", "n", "t") == [(1, "a"), (2, "b"), (3, None)]


def test_rows_come_in_batches_and_in_order(tmp_path: Path) -> None:
    count = 2 * BATCH_ROWS + 5
    pd.DataFrame({"n": range(count)}).to_parquet(tmp_path / "x.parquet", row_group_size=7000)
    pd.DataFrame({"n": range(count)}).to_csv(tmp_path / "x.csv", index=False)
    for name in ("x.parquet", "x.csv"):
        sizes = [len(batch["n"]) for batch in read_batches(tmp_path / name, ["n"])]
        assert max(sizes) <= BATCH_ROWS
        assert [int(n) for (n,) in rows_of(tmp_path / name, "n")] == list(range(count))


@pytest.mark.parametrize("name", ["a [1].csv", "*.csv", ".hidden.csv", "ä;?.csv"])
def test_names_are_no_patterns(tmp_path: Path, name: str) -> None:
    for other in (name, "other.csv", "a 1.csv"):
        (tmp_path / other).write_text(f"a\n{other}\n", encoding="utf-8")
    assert rows_of(tmp_path / name, "a") == [(name,)]


def test_quotes_that_join_lines_of_a_tsv_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tsv").write_text('a\tb\n"one\n2\t"\t3\nfour\t5\n', encoding="utf-8")
    rows_of(tmp_path / "x.tsv", "a")
    assert "1 rows of" in capsys.readouterr().err


def test_class_names_are_those_that_datasets_records(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label, "tags": datasets.List(label)})
    datasets.Dataset.from_dict({"text": ["a"], "label": [1], "tags": [[0, 1]]}, features=features).to_parquet(tmp_path / "x.parquet")
    assert [recorded_class_names(tmp_path / "x.parquet", column) for column in ("label", "tags", "text", "no")] == [["no", "yes"]] * 2 + [
        []
    ] * 2
    assert rows_of(tmp_path / "x.parquet", "label") == [(1,)]
    assert class_label_names(None) == []
    pd.DataFrame({"label": [1]}).to_parquet(tmp_path / "plain.parquet")
    assert recorded_class_names(tmp_path / "plain.parquet", "label") == []


def test_nothing_is_written_beside_or_into_a_cache(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n", encoding="utf-8")
    script = f"from compress.data.tables import *; list(read_batches(Path({str(tmp_path / 'x.csv')!r}), ['a']))"
    home = tmp_path / "home"
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert [path.name for path in tmp_path.iterdir() if path != home] == ["x.csv"]


def test_a_file_that_is_not_read_to_its_end_leaves_the_logging_of_datasets_as_it_was(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(30_000))}), tmp_path / "x.parquet")
    before = datasets.logging.get_verbosity(), datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    one, other = (read_batches(tmp_path / "x.parquet", ["a"]) for _ in range(2))
    next(one), next(other)
    assert datasets.logging.get_verbosity() == datasets.logging.CRITICAL
    one.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(list(other)) == 2
    assert (datasets.logging.get_verbosity(), datasets.config.HF_UPDATE_DOWNLOAD_COUNTS) == before


def test_sizes_are_those_of_the_contents(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["word " * 100] * 1000})
    frame.to_parquet(tmp_path / "x.parquet", use_dictionary=False)
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_csv(tmp_path / "x.csv.gz", index=False)
    assert 500_000 < uncompressed_size(tmp_path / "x.parquet") < 600_000 > uncompressed_size(tmp_path / "x.csv") > 500_000
    assert uncompressed_size(tmp_path / "x.csv.gz") == 4 * (tmp_path / "x.csv.gz").stat().st_size


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    with pytest.raises(DataError, match=r"did you mean 'train\.csv'"):
        existing_file(str(tmp_path / "trian.csv"))


@pytest.mark.parametrize(
    "use",
    [
        "import compress; compress.load_onnx",
        "from compress.inference import predictor, artifact",
        "from compress.cli.main import cli; cli(['--help'])",
    ],
)
def test_datasets_is_imported_only_where_data_is_read(use: str) -> None:
    script = f"import sys\ntry:\n    {use}\nfinally:\n    print('datasets' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    assert printed.split()[-1] == "False"


def test_reading_parquet_keeps_only_batches_in_memory(tmp_path: Path) -> None:
    """Arrow's read-ahead would keep all that was read of a file until its end."""
    path = tmp_path / "x.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), compression="none", use_dictionary=False) as writer:
        for _ in range(40):
            writer.write_table(pa.table({"text": ["word " * 200] * 5000}))  # 5 MB
    largest = 0
    before = pa.total_allocated_bytes()
    for _ in read_batches(path, ["text"]):
        largest = max(largest, pa.total_allocated_bytes() - before)
    assert 0 < largest < 100e6  # of 200 MB
