"""The gates of a recipe: limits that the last evaluated and the last benchmarked model must keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from compress.core.errors import GateMissed
from compress.data.metrics import points_lost
from compress.recipe.schema import Recipe
from compress.results import BenchDocument, EvalDocument, GateDocument, RunDocument, StageManifest


def check_gates(recipe: Recipe, manifests: Mapping[str, StageManifest]) -> list[GateDocument]:
    """Compare the last evaluation and the last benchmark with the recipe's gates."""
    gated = {stage.verb.gate: manifests[name] for name, stage in recipe.stages.items() if stage.verb.gate}
    limits = recipe.gates.model_dump(exclude_none=True)
    return [GATES[name](limit, gated[name]) for name, limit in limits.items()]


def max_drop(limit: float, manifest: object) -> GateDocument:
    """Return the points of the main metric that the last model loses against the first."""
    document = cast("EvalDocument", manifest)
    first, last = document["results"][0], document["results"][-1]
    main = document["main_metric"]
    drop = points_lost(first["metrics"][main], last["metrics"][main])
    where = f"points of {main} on {document['split']}, n = {document['n']}, {last['model']} against {first['model']}"
    return {"gate": "max_drop", "limit": limit, "measured": drop, "passed": drop <= limit, "where": where}


def min_speedup(limit: float, manifest: object) -> GateDocument:
    """Return the speedup of the last model over the first in the first cell of the benchmark."""
    results = cast("BenchDocument", manifest)["results"]
    keys = ("threads", "batch_size", "seq_len", "lengths")
    cell = {key: results[0][key] for key in keys}
    last = [entry for entry in results if all(entry[key] == cell[key] for key in keys)][-1]
    ratio = last["speedup"]["ratio"]
    shape = f"batch {cell['batch_size']}, length {cell['seq_len']}, threads {cell['threads']}"
    where = f"{last['model']} against {last['speedup']['vs']}, {shape}"
    return {"gate": "min_speedup", "limit": limit, "measured": ratio, "passed": ratio >= limit, "where": where}


GATES: dict[str, Callable[[float, object], GateDocument]] = {"max_drop": max_drop, "min_speedup": min_speedup}


def raise_if_missed(gates: list[GateDocument], output: Path, document: RunDocument) -> None:
    """End a run whose files are written, if it missed a gate.

    Raises:
        GateMissed: it did; the error carries the run's manifest.
    """
    missed = [gate for gate in gates if not gate["passed"]]
    if missed:
        raise GateMissed(
            "; ".join(f"the gate {gate['gate']} {gate['limit']:g} was missed: {gate['measured']:.2f} ({gate['where']})" for gate in missed),
            f"everything is written; the report is {output / 'report.html'}",
            {**document},
        )
