"""What `compress auto` finds on a list of data sets, with nothing chosen by hand.

    python eval/auto.py sst2 mrpc sick banking77 ud-ewt sts --max-drop 1 --budget 45m --seeds 0 -o runs/auto --data DIR

DIR has a folder for each set with train.parquet, test.parquet and perhaps validation.parquet. Each search runs in a separate process;
after it the answer and the baseline in PyTorch fp32 are timed again, in the same rounds, at batch 1, 32 tokens, one thread. What is
finished is not run again. Prints the table and writes it to OUTPUT/results.md and OUTPUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict

SPLITS = ("train", "validation", "test")
SERVED = ("--batch-size", "1", "--seq-len", "32", "--threads", "1")
GATE_MISSED = 6  # exit code: the nearest was delivered


@dataclass(frozen=True)
class DataSet:
    """How a data set is read: its columns and further options of the task."""

    text: tuple[str, ...]
    label: str = "label"
    more: tuple[str, ...] = ()


SETS = {
    "sst2": DataSet(("sentence",)),
    "mrpc": DataSet(("sentence1", "sentence2")),
    "sick": DataSet(("premise", "hypothesis")),
    "banking77": DataSet(("text",)),
    "ud-ewt": DataSet(("tokens",), "upos", ("--kind", "token-classification", "--metric", "accuracy")),
    "sts": DataSet(("sentence1", "sentence2"), more=("--kind", "regression", "--metric", "spearman")),
}
PRESETS = {"bbc-news": ("--max-length", "80")}  # whose data come with a package


class Row(TypedDict):
    """One search; points are those of the main metric."""

    data: str
    seed: int
    teacher: float
    answer: str
    speedup: float
    speedup_ci95: list[float]
    points: float
    points_ci95: list[float]
    n: int
    validation_points: float
    minutes: float
    kept: bool
    asked: str


def main(given: Sequence[str] | None = None) -> int:
    """Search on every data set with every seed, and print the table."""
    options = arguments(given)
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in options.sets:
        for seed in options.seeds:
            row = searched(name, seed, options)
            if row is not None:
                rows.append(row)
                (options.output / "results.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
                (options.output / "results.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))
    return 0 if len(rows) == len(options.sets) * len(options.seeds) else 1


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=[*SETS, *PRESETS])
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the data sets")
    parser.add_argument("--model", default="builtin:minilm-l6", help="what is made smaller; a folder may contain {data} and {seed}")
    parser.add_argument("--max-drop", default="1")
    parser.add_argument("--budget", default="45m")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(given)


def task_options(name: str, data: Path) -> list[str]:
    """Return the options of `compress` that describe a data set."""
    if name in PRESETS:
        return ["--task", name, *PRESETS[name]]
    known = SETS[name]
    files = [(split, data / name / f"{split}.parquet") for split in SPLITS]
    options = [part for split, path in files if path.is_file() for part in (f"--{split}", str(path))]
    return [*options, *(part for column in known.text for part in ("--text", column)), "--label", known.label, *known.more]


def searched(name: str, seed: int, options: argparse.Namespace) -> Row | None:
    """Return the row of a search, run now or earlier; None if it failed."""
    folder = options.output / f"{name}-seed{seed}"
    model = options.model.format(data=name, seed=seed)
    asked = ["auto", model, *task_options(name, options.data), *SERVED, "--max-drop", options.max_drop, "--budget", options.budget]
    asked += ["--seed", str(seed)]
    stored = folder.with_suffix(".row.json")
    if stored.is_file() and (row := json.loads(stored.read_text(encoding="utf-8")))["asked"] == " ".join(asked):
        return row
    print(f"{name}, seed {seed} …", file=sys.stderr, flush=True)
    with folder.with_suffix(".log").open("a", encoding="utf-8") as log:
        code, document = compress(log, *asked, "-o", str(folder))
        if code not in (0, GATE_MISSED):
            print(f"{name}, seed {seed}: exit code {code}, see {log.name}", file=sys.stderr)
            return None
        document = json.loads((folder / "auto.json").read_text(encoding="utf-8"))
        teachers = sorted((folder / "run" / "stages").glob("*-teacher"))
        before = str(teachers[0]) if teachers else model
        bench = ["--batch-size", "1", "--seq-len", "32", "--threads", "1", "--no-memory"]
        code, timing = compress(log, "bench", before, str(folder / "model"), *bench)
    if code or timing is None:
        print(f"{name}, seed {seed}: timing failed with exit code {code}, see {log.name}", file=sys.stderr)
        return None
    verdict, speed = document["verdict"], timing["results"][-1]["speedup"]
    row = Row(
        data=name, seed=seed, teacher=100 * verdict["baseline"], answer=document["answer"]["candidate"], speedup=speed["ratio"],
        speedup_ci95=speed["ci95"], points=verdict["drop_points"], points_ci95=verdict["drop_ci95"], n=verdict["n"],
        validation_points=verdict["validation_drop_points"], minutes=document["spent_seconds"] / 60, kept=document["kept"],
        asked=" ".join(asked),
    )  # fmt: skip
    stored.write_text(json.dumps(row), encoding="utf-8")
    return row


def compress(log: IO[str], *command: str) -> tuple[int, dict[str, Any] | None]:
    """Run a command of `compress`; returns its exit code and its document."""
    done = subprocess.run(
        [sys.executable, "-m", "compress", "--json", *command], stdout=subprocess.PIPE, stderr=log, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown, with the geometric mean of the speedups."""
    lines = [
        "| data | seed | teacher | answer | speedup | points lost on test | n | on validation | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        speed = f"{row['speedup']:.1f}x [{row['speedup_ci95'][0]:.1f}, {row['speedup_ci95'][1]:.1f}]"
        lost = f"{row['points']:.2f} [{row['points_ci95'][0]:.1f}, {row['points_ci95'][1]:.1f}]"
        answer = row["answer"] + ("" if row["kept"] else " (nearest)")
        lines.append(
            f"| {row['data']} | {row['seed']} | {row['teacher']:.2f} | {answer} | {speed} | {lost} | {row['n']:,} | "
            f"{row['validation_points']:.2f} | {row['minutes']:.1f} |"
        )
    if rows:
        mean = math.exp(sum(math.log(row["speedup"]) for row in rows) / len(rows))
        lost_mean = sum(row["points"] for row in rows) / len(rows)
        lines.append(f"| mean | | | | {mean:.1f}x (geometric) | {lost_mean:.2f} | | | {sum(row['minutes'] for row in rows):.0f} in all |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
