"""Does a killed search give the same answer, and what does a second search reuse?

    python eval/auto_resume.py teacher --max-drop 1 0.5 --kills 5 --budget 8m -o runs/resume -- --task sst2.yaml

1. A search with the first limit, undisturbed. 2. One with the second limit in the same store: which share of the first one's time it
reuses. 3. The first one again in a store of its own, killed (SIGKILL) at random moments and started again each time. What follows `--`
describes the task. Prints the figures as JSON. Run it on a quiet machine: a search decides by what its stages took, so two undisturbed
ones may differ, too.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

FINISHED = (0, 6)  # exit codes: kept, and the nearest
TRAINED = ("finetune", "prune", "distill")


def main(given: Sequence[str] | None = None) -> int:
    """Run the three parts."""
    given = list(sys.argv[1:] if given is None else given)
    cut = given.index("--") if "--" in given else len(given)
    options, task = arguments(given[:cut]), given[cut + 1 :]
    options.output.mkdir(parents=True, exist_ok=True)
    first, second = options.max_drop
    whole, seconds = searched(options, task, first, options.output / "whole", options.output / "store")
    other, _ = searched(options, task, second, options.output / "second", options.output / "store")
    killed, _ = searched(options, task, first, options.output / "killed", options.output / "killed-store", options.kills, seconds)
    spent = stage_seconds(whole)
    digests = [trained_digests(options.output / folder) for folder in ("whole", "killed")]
    result = {
        "answers": {limit: answer(document) for limit, document in ((first, whole), (second, other))},
        "reused_share": round(cast("float", other["reused_seconds"]) / spent, 3),
        "first_seconds": round(spent),
        "reused_seconds": round(cast("float", other["reused_seconds"])),
        "second_seconds": round(cast("float", other["spent_seconds"])),
        "kills": options.kills,
        "killed_answer": answer(killed),
        "same_answer": answer(killed) == answer(whole),
        "same_weights": digests[0] == digests[1],
    }
    print(json.dumps(result, indent=1))
    return 0 if result["same_answer"] and cast("float", result["reused_share"]) >= options.reuse else 1


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Read the command line before `--`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--max-drop", nargs=2, default=["1", "0.5"])
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--reuse", type=float, default=0.8, help="share of the first search's time that the second must reuse")
    parser.add_argument("--seed", type=int, default=0, help="of the search, and of the moments")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(given)


def searched(
    options: argparse.Namespace, task: Sequence[str], limit: str, output: Path, store: Path, kills: int = 0, seconds: float = 0.0
) -> tuple[dict[str, object], float]:
    """Run a search; returns its document and its wall time.

    Args:
        options: of the command line.
        task: options that describe the task.
        limit: of the drop.
        output: its folder; a finished one is not run again.
        store: of its stages.
        kills: how often it is killed.
        seconds: between which and 0 the moments are drawn, altogether.
    """
    command = [sys.executable, "-m", "compress", "auto", options.model, *task, "--max-drop", limit, "--budget", options.budget]
    command += ["--seed", str(options.seed), "--store", str(store), "-o", str(output)]
    started, draw = time.monotonic(), random.Random(options.seed)  # noqa: S311
    moments = sorted(draw.uniform(0, seconds) for _ in range(kills))
    document = output / "auto.json"
    with output.with_suffix(".log").open("a", encoding="utf-8") as log:
        for before, moment in zip([0.0, *moments], moments, strict=False):
            if document.is_file():
                break
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                process.wait(moment - before)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not document.is_file() and (code := subprocess.run(command, stdout=log, stderr=log, check=False).returncode) not in FINISHED:
            raise SystemExit(f"exit code {code}, see {log.name}")
    return json.loads(document.read_text(encoding="utf-8")), time.monotonic() - started


def answer(document: dict[str, object]) -> dict[str, object]:
    """Return what must be equal: which model, its accuracy on both splits."""
    row = cast("dict[str, object]", document["answer"])
    verdict = cast("dict[str, object]", document["verdict"])
    return {"candidate": row["candidate"], "drop_points": row["drop_points"], "test_drop_points": verdict["drop_points"]}


def stage_seconds(document: dict[str, object]) -> float:
    """Return what the stages of a search have taken."""
    ledger = json.loads((Path(cast("str", document["output"])) / "search.json").read_text(encoding="utf-8"))
    return sum(entry["seconds"] or 0.0 for entry in ledger["entries"].values() if not entry["reused"])


def trained_digests(output: Path) -> dict[str, str]:
    """Return the digests of the weights that lead to the answer, by stage."""
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((output / "run" / "stages").glob("*/compress.json"))]
    return {manifest["stage"]: manifest["digest"] for manifest in manifests if manifest.get("verb") in TRAINED}


if __name__ == "__main__":
    sys.exit(main())
