"""How the time of a search would fall with more machines, by what its stages took and which of them read one another.

`python eval/auto_nodes.py SEARCH` reads the folder of a finished `compress auto` and schedules its stages on 1 to 64 machines. A search
decides after every stage what to do next, and so runs one at a time; this is what a search gains at most that begins each stage
as soon as its inputs are finished, without waiting for what the others have shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from compress.core import files
from compress.core.artifacts import read_manifest
from compress.search.jobs import TIMED_TARGETS
from eval.scaling import NODES, Work, print_schedules


def search_works(search: Path, store: Path | None = None) -> dict[str, Work]:
    """Return the stages of a search in the order in which they ran, with the wall time that it spent on them.

    Args:
        search: the output of `auto`.
        store: where its stages are; by default `stages` in the output.
    """
    entries = files.read_json(search / "search.json")["entries"]
    stages = [read_manifest(folder) or {} for folder in sorted((store or search / "stages").iterdir()) if folder.is_dir()]
    of_key = {stage["key"]: stage for stage in stages if "key" in stage}
    ran = [(of_key[key], entry["seconds"]) for key, entry in entries.items() if key in of_key and entry["seconds"] is not None]
    names = {stage["stage"] for stage, _ in ran}
    return {stage["stage"]: Work(seconds, _needs(stage, names), _is_timed(stage)) for stage, seconds in ran}


def _needs(stage: Mapping[str, Any], names: set[str]) -> tuple[str, ...]:
    return tuple(sorted({reference.partition("/")[0] for reference in stage["inputs"]} & names))


def _is_timed(stage: Mapping[str, Any]) -> bool:
    """Return whether a stage measures time, as `compress.search.jobs.is_timed` decides it of stages that are not run yet."""
    settings = stage["settings"]
    targets = stage["verb"] == "prune" and any(settings.get(target) is not None for target in TIMED_TARGETS)
    return stage["verb"] == "bench" or targets or bool(settings.get("tune"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="output of compress auto")
    parser.add_argument("--store", type=Path, help="its store, if it is not in the output")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES)
    parser.add_argument("--timers", type=int, help="machines that may time stages; default: all")
    parser.add_argument("--overhead", type=float, default=0.0, help="seconds per stage")
    arguments = parser.parse_args()
    print_schedules(search_works(arguments.search, arguments.store), arguments, "| machines | time, min | times as fast | busy, % |")


if __name__ == "__main__":
    main()
