"""Does an answer keep the latency that it promises? One search for each target, then the answer is timed again.

    python eval/auto_latency.py builtin:minilm-l6 --target-latency-ms 0.8 1.5 3 --budget 30m -o runs/latency -- --task sst2.yaml

The searches share one store. After each, the baseline in PyTorch fp32 and the answer are timed again in a process of their own, in the same
rounds, at the search's serving point. What follows `--` describes the task. "Off" is how much slower the answer is than promised, relative
to the baseline in the same rounds, so that the load of the machine is left out. Prints the table and writes it to OUTPUT/results.md
and OUTPUT/results.json; exit code 1 if an answer is off by more than 5 % or exceeds its target.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

sys.path.insert(0, str(Path(__file__).parent.parent))

from eval.auto import GATE_MISSED, compress

TOLERANCE = 0.05


class Row(TypedDict):
    """One target; times are medians of a batch in milliseconds."""

    target: float
    answer: str
    promised_ms: float
    again_ms: float
    off: float
    points: float
    points_ci95: list[float]
    n: int
    minutes: float
    kept: bool


def main(given: Sequence[str] | None = None) -> int:
    """Search for every target, and print the table."""
    given = list(sys.argv[1:] if given is None else given)
    cut = given.index("--") if "--" in given else len(given)
    options, task = arguments(given[:cut]), given[cut + 1 :]
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for target in options.target_latency_ms:
        rows.append(searched(target, options, task))
        (options.output / "results.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        (options.output / "results.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))
    return 0 if all(row["kept"] and row["off"] <= TOLERANCE for row in rows) else 1


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Read the command line before `--`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--target-latency-ms", nargs="+", type=float, required=True)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(given)


def searched(target: float, options: argparse.Namespace, task: Sequence[str]) -> Row:
    """Return what a search for a target promises, and what its answer takes when it is timed again.

    Raises:
        SystemExit: a command failed.
    """
    folder = options.output / f"{target:g}ms"
    asked = ["--target-latency-ms", f"{target:g}", "--budget", options.budget, "--seed", str(options.seed)]
    with folder.with_suffix(".log").open("a", encoding="utf-8") as log:
        if not (folder / "auto.json").is_file():
            code, _ = compress(log, "auto", options.model, *task, *asked, "--store", str(options.output / "store"), "-o", str(folder))
            if code not in (0, GATE_MISSED):
                raise SystemExit(f"auto: exit code {code}, see {log.name}")
        found = json.loads((folder / "auto.json").read_text(encoding="utf-8"))
        teachers = sorted((folder / "run" / "stages").glob("*-teacher"))
        baseline = str(teachers[0]) if teachers else options.model
        code, timed = compress(log, "bench", baseline, str(folder / "model"), *point(found["serving"]), "--no-memory")
        if code or timed is None:
            raise SystemExit(f"bench: exit code {code}, see {log.name}")
    again, verdict = timed["results"][-1], found["verdict"]
    return Row(
        target=target,
        answer=found["answer"]["candidate"],
        promised_ms=found["answer"]["latency_ms"],
        again_ms=again["latency_ms"]["p50"],
        off=found["speedup"]["ratio"] / again["speedup"]["ratio"] - 1,
        points=verdict["drop_points"],
        points_ci95=verdict["drop_ci95"],
        n=verdict["n"],
        minutes=found["spent_seconds"] / 60,
        kept=found["kept"],
    )


def point(serving: dict[str, Any]) -> list[str]:
    """Return a search's serving point as options of `bench`."""
    keys = {"--batch-size": "batch_size", "--seq-len": "seq_len", "--threads": "threads"}
    return [part for option, key in keys.items() for part in (option, str(serving[key]))]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| target, ms | answer | promised, ms | timed again, ms | off | points lost | n | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["points_ci95"]
        answer = row["answer"] + ("" if row["kept"] else " (nearest)")
        lines.append(
            f"| {row['target']:g} | {answer} | {row['promised_ms']:.3g} | {row['again_ms']:.3g} | {100 * row['off']:+.1f} % | "
            f"{row['points']:.2f} [{low:.1f}, {high:.1f}] | {row['n']:,} | {row['minutes']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
