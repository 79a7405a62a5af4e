"""Fine-tune a tiny model on a data set that is larger than memory, and measure the peak of resident memory.

    python eval/large_data.py --gigabytes 4 --budget 60s -o /tmp/large

It writes a synthetic file of short reviews and a small validation file, runs `compress finetune` in a separate process, and
prints what it took as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BLOCK = 50_000  # rows of a row group, and texts that are drawn; rows repeat these with a number of their own at the end
WORDS = 300  # of a text, on average
VALIDATION_ROWS = 2_000
GOOD = ("great", "wonderful", "moving", "brilliant", "funny")
BAD = ("awful", "boring", "clumsy", "tedious", "flat")
OTHER = tuple(
    "the a of and to in it is that this film was with for but as on his her they story actor scene music plot camera while after before "  # noqa: SIM905
    "because people world night day city house evening train letter winter summer director audience character ending beginning moment "
    "silence memory family friend question answer colour light shadow voice dialogue history".split()
)


def main() -> None:
    """Write the files, train, print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the training file (default 4)")
    parser.add_argument("--format", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--budget", default="60s", help="of the fine-tuning, reading and tokenizing included")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the files and the model")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    train, validation = options.output / f"train.{options.format}", options.output / "validation.parquet"
    rng = np.random.default_rng(0)
    write_table(validation, VALIDATION_ROWS, rng)
    mean_bytes = np.mean([len(text) for text in texts(1000, rng)[0]])
    rows = write_table(train, round(options.gigabytes * 1e9 / mean_bytes), rng)
    model = write_model(options.output / "encoder")
    command = [
        sys.executable, "-m", "compress", "--json", "finetune", str(model), "--train", str(train), "--validation", str(validation),
        "--text", "text", "--label", "label", "--max-length", "32", "--batch-size", "64", "--lr", "1e-3", "--budget", options.budget,
        "--overwrite", "-o", str(options.output / "model"),
    ]  # fmt: skip
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    document = json.loads(printed) if printed else {}
    result = {
        "file_gb": round(train.stat().st_size / 1e9, 2),
        "rows": rows,
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - started, 1),
        "peak_resident_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "training": document.get("training"),
        "metrics": document.get("metrics"),
    }
    print(json.dumps(result, indent=2))


def texts(count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Return `count` reviews and their classes: a review has some good words or some bad ones among the others."""
    labels = rng.integers(0, 2, count)
    lengths = rng.integers(WORDS // 2, WORDS * 3 // 2, count)
    words = np.array([*OTHER, *GOOD, *BAD])
    drawn = rng.integers(0, len(OTHER), int(lengths.sum()))
    marked = rng.random(len(drawn)) < 0.05
    classes = np.repeat(labels, lengths)
    drawn[marked] = len(OTHER) + rng.integers(0, 5, int(marked.sum())) + 5 * (1 - classes[marked])
    return [" ".join(part) for part in np.split(words[drawn], np.cumsum(lengths)[:-1])], labels


def write_table(path: Path, count: int, rng: np.random.Generator) -> int:
    """Write `count` rows block by block, without compression; returns `count`. A file that exists is kept."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if path.exists():
        return count
    schema = pa.schema([("text", pa.string()), ("label", pa.int64())])
    partial = path.with_name(f"partial-{path.name}")
    parquet = path.suffix == ".parquet"
    with (
        pq.ParquetWriter(partial, schema, compression="none", use_dictionary=False)
        if parquet
        else pa.csv.CSVWriter(partial, schema) as writer
    ):
        pool, classes = texts(min(BLOCK, count), rng)
        for start in range(0, count, BLOCK):
            drawn = rng.permutation(len(pool))[: count - start].tolist()
            column = [f"{pool[i]} {start + number}" for number, i in enumerate(drawn)]
            writer.write_table(pa.table([column, classes[drawn]], schema=schema))
    partial.rename(path)
    return count


def write_model(folder: Path) -> Path:
    """Write a BERT of 2 layers and 64 hidden units with random weights and the tokenizer of the builtin model."""
    import shutil

    import torch
    from transformers import BertConfig, BertModel

    from compress.models.reference import locate

    source = locate("builtin:minilm-l6")
    torch.manual_seed(0)
    vocabulary = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    config = BertConfig(vocab_size=vocabulary, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    return folder


if __name__ == "__main__":
    main()
