"""Does a search find what recipes chosen by hand have? Both at the same accuracy budget, the search in at most twice the time.

    python eval/auto_recipes.py sst2 mrpc sick banking77 ud-ewt bbc-news --data DIR -o runs/auto-recipes

For each data set the ready recipe runs first, with the set's own files; then `auto` with the recipe's gate as `--max-drop` and twice the
recipe's time as `--budget`. Then the answers of both and the recipe's teacher in PyTorch fp32 are timed in the same rounds, at batch 1, 32
tokens, one thread. Points are lost on test, each against its own teacher. What is finished is not run again. Prints the table and
writes it to OUTPUT/results.md and OUTPUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from eval.auto import GATE_MISSED, PRESETS, SERVED, SETS, SPLITS, compress, task_options

RECIPES = Path(__file__).parent.parent / "recipes"
RECIPE_OF = {"sst2": "sst2", "mrpc": "mrpc", "sick": "sick", "banking77": "banking77", "ud-ewt": "pos", "bbc-news": "demo"}
KEYS = {"--kind": "kind", "--metric": "metrics"}  # options of the command line as keys of a task
TIME = 2.0  # times that of the recipe, for the search


class Side(TypedDict):
    """What one of the two reached; points are those of the main metric."""

    speedup: float
    speedup_ci95: list[float]
    points: float
    points_ci95: list[float]
    minutes: float
    kept: bool


class Pair(TypedDict):
    """A data set: the recipe and the search."""

    data: str
    limit: float
    n: int
    recipe: Side
    auto: Side


def main(given: Sequence[str] | None = None) -> int:
    """Compare on every data set, and print the table."""
    options = arguments(given)
    options.output.mkdir(parents=True, exist_ok=True)
    pairs: list[Pair] = []
    for name in options.sets:
        print(f"{name} …", file=sys.stderr, flush=True)
        pairs.append(compared(name, options))
        (options.output / "results.json").write_text(json.dumps(pairs, indent=1), encoding="utf-8")
        (options.output / "results.md").write_text(table(pairs), encoding="utf-8")
    print(table(pairs))
    return 0 if all(pair["auto"]["speedup"] >= pair["recipe"]["speedup"] for pair in pairs) else 1


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=list(RECIPE_OF))
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=17, help="of both")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(given)


def recipe_document(name: str, data: Path, seed: int) -> dict[str, Any]:
    """Return the ready recipe of a data set, with the task that the search has: its own files and columns."""
    document = yaml.safe_load((RECIPES / f"{RECIPE_OF[name]}.yaml").read_text(encoding="utf-8"))
    if name not in PRESETS:
        known = SETS[name]
        files = {split: data / name / f"{split}.parquet" for split in SPLITS}
        more = {KEYS[option]: value for option, value in zip(known.more[::2], known.more[1::2], strict=True)}
        if "metrics" in more:
            more = {**more, "metrics": [more["metrics"]]}
        present = {split: str(path.absolute()) for split, path in files.items() if path.is_file()}
        document["task"] = {"name": name, "text": list(known.text), "label": known.label, **more, **present}
    return {**document, "seed": seed}


def compared(name: str, options: argparse.Namespace) -> Pair:
    """Return what recipe and search reach on a data set.

    Raises:
        SystemExit: a command failed.
    """
    run, search = options.output / f"{name}-recipe", options.output / f"{name}-auto"
    recipe = recipe_document(name, options.data, options.seed)
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    finished(run.with_suffix(".log"), "run", str(path), "-o", str(run))
    manifests = [json.loads(file.read_text(encoding="utf-8")) for file in (run / "stages").glob("*/compress.json")]
    minutes = sum(manifest["seconds"] for manifest in manifests) / 60
    (teacher,) = (run / "stages").glob("*-teacher")
    limit, model, task = recipe["gates"]["max_drop"], run / "model", task_options(name, options.data)
    asked = [*task, *SERVED, "--max-drop", str(limit), "--budget", f"{math.ceil(TIME * minutes)}m", "--seed", str(options.seed)]
    if not (search / "auto.json").is_file():
        finished(search.with_suffix(".log"), "auto", recipe["model"], *asked, "-o", str(search))
    found = json.loads((search / "auto.json").read_text(encoding="utf-8"))
    log = run.with_suffix(".log")
    judged = finished(log, "eval", str(teacher), str(model), *task, "--split", "test")
    timed = finished(log, "bench", str(teacher), str(model), str(search / "model"), *SERVED, "--no-memory")
    lost = judged["results"][1]["vs_first"]
    points, interval = -100 * lost["delta"], [-100 * end for end in reversed(lost["ci95"])]
    verdict, (_, by_hand, by_search) = found["verdict"], (entry.get("speedup") for entry in timed["results"])
    return Pair(
        data=name,
        limit=limit,
        n=judged["n"],
        recipe=side(by_hand, points, interval, minutes, points <= limit),
        auto=side(by_search, verdict["drop_points"], verdict["drop_ci95"], found["spent_seconds"] / 60, found["kept"]),
    )


def side(speed: dict[str, Any], points: float, interval: list[float], minutes: float, kept: bool) -> Side:
    """Return what one of the two reached; `speed` as `bench` has it."""
    return Side(
        speedup=speed["ratio"], speedup_ci95=speed["ci95"], points=points, points_ci95=interval, minutes=minutes, kept=kept
    )  # fmt: skip


def finished(log: Path, *command: str) -> dict[str, Any]:
    """Run a command and return its document; a missed gate is a result, too.

    Raises:
        SystemExit: it failed.
    """
    with log.open("a", encoding="utf-8") as file:
        code, document = compress(file, *command)
    if code not in (0, GATE_MISSED) or document is None:
        raise SystemExit(f"{command[0]}: exit code {code}, see {log}")
    return cast("dict[str, Any]", document)


def table(pairs: Sequence[Pair]) -> str:
    """Return the pairs as a table in Markdown."""
    lines = [
        "| data | limit | n | recipe | points lost | minutes | auto | points lost | minutes | times the recipe's speed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        cells = [cell for side in (pair["recipe"], pair["auto"]) for cell in cells_of(side)]
        faster = pair["auto"]["speedup"] / pair["recipe"]["speedup"]
        lines.append(f"| {pair['data']} | {pair['limit']:g} | {pair['n']:,} | {' | '.join(cells)} | {faster:.2f} |")
    return "\n".join(lines) + "\n"


def cells_of(side: Side) -> list[str]:
    """Return the cells of one of the two."""
    (low, high), (least, most) = side["speedup_ci95"], side["points_ci95"]
    missed = "" if side["kept"] else " (missed)"
    lost = f"{side['points']:.2f} [{least:.1f}, {most:.1f}]{missed}"
    return [f"{side['speedup']:.1f}x [{low:.1f}, {high:.1f}]", lost, f"{side['minutes']:.1f}"]


if __name__ == "__main__":
    sys.exit(main())
