"""Compare this project with other tools: `python eval/run.py eval/suites/short.yaml [--data DIR] [-o OUT] [--quick]`.

Makes a teacher, our artifacts and each peer's, then measures all of them in the same interleaved rounds; see
protocol.md. Writes OUT/results.json and OUT/results.md, and eval/RESULTS.md with --write-results.
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import candidates, comparison, results, suite
from harness.suite import Suite
from peers import PEERS

from compress.core import console, files, locks, machine, outputs
from compress.core.errors import CompressError, UsageError
from compress.data.task import Task
from compress.models.reference import locate

HERE = Path(__file__).parent


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="eval/run.py", description="Compare compress with other tools, side by side.")
    parser.add_argument("suite", type=Path, help="a suite, such as eval/suites/short.yaml")
    parser.add_argument("--data", type=Path, help="a folder with TASK/train.parquet and so on; by default the hub's data")
    parser.add_argument("-o", "--output", type=Path, help="folder of all results; by default runs/eval-SUITE")
    parser.add_argument("--teacher", type=Path, help="a fine-tuned checkpoint, instead of training one (one model, one task)")
    parser.add_argument("--task", action="append", default=[], help="only this task of the suite; several: repeat it")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(PEERS), metavar="PEER", help=f"only these of {', '.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds, few examples: shows that everything runs")
    parser.add_argument("--write-results", action="store_true", help="write eval/RESULTS.md")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run the suite; returns the exit code, those of the command line."""
    options = arguments(given)
    console.configure()
    try:
        document = run(options)
    except CompressError as error:
        print(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; what was built is used again by the next run", file=sys.stderr)
        return 130
    print(results.page(document))
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Make and measure everything; returns the document of `results.json`.

    Raises:
        CompressError: the suite, the data or the teacher is wrong; a peer's failure is a row of the table instead.
    """
    started = time.monotonic()
    loaded = suite.load(options.suite)
    if options.write_results and (options.quick or options.only or options.task):
        raise UsageError("a quick or partial run gives no results to write", "leave --write-results out, or --quick, --only and --task")
    loaded = loaded.quick() if options.quick else loaded
    tasks = {name: Task(suite.task_spec(name, options.suite, options.data)) for name in _chosen(loaded, options)}
    if options.teacher and len(tasks) * len(loaded.models) > 1:
        raise UsageError("--teacher is one model of one task, and the suite has more", "choose one with --task")
    output = options.output or Path("runs") / f"eval-{loaded.name}"
    outputs.check_output(output, [])
    document: dict[str, Any] = {
        "suite": loaded.model_dump(mode="json", by_alias=True),
        "quick": options.quick,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**machine.facts(), "platform": platform.platform()},
        "tables": [],
    }
    with locks.locked(output):
        for model in loaded.models:
            for task in tasks.values():
                document["tables"].append(_table(loaded, model, task, options, output))
                document["seconds"] = time.monotonic() - started
                files.write_json(output / "results.json", document)  # after each table: a long suite may be stopped
                files.write_text(output / "results.md", results.page(document))
        if options.write_results:
            files.write_text(HERE / "RESULTS.md", results.page(document))
    return document


def _chosen(loaded: Suite, options: argparse.Namespace) -> list[str]:
    unknown = [name for name in options.task if name not in loaded.tasks]
    if unknown:
        raise UsageError(f"the suite has no task '{unknown[0]}' (it has: {', '.join(loaded.tasks)})")
    return [name for name in loaded.tasks if not options.task or name in options.task]


def _table(loaded: Suite, model: str, task: Task, options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Make and measure the candidates of one model and task."""
    folder = output / re.sub(r"[^\w.-]+", "-", model).strip(".-") / task.spec.name
    teacher = locate(options.teacher) if options.teacher else candidates.make_teacher(model, task, loaded, folder / "teacher")
    made = candidates.make(loaded, task, teacher, folder, set(options.only))
    document = comparison.compare(loaded, task, teacher, made, folder / "logs", options.quick)
    return {"model": str(options.teacher.name if options.teacher else model), **document}


if __name__ == "__main__":
    sys.exit(main())
