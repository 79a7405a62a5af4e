"""The document of a sweep: what each point measured, mean and spread over the seeds, and what each stage took."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.core import artifacts, machine
from compress.core.errors import CompressError
from compress.recipe.provenance import now
from compress.recipe.schema import stage_of
from compress.report import summary
from compress.report.run_folder import Document
from compress.results import RunDocument
from compress.results.checkpoints import Spread
from compress.results.sweeps import SweepDocument, SweepFailure, SweepPoint, SweepSetting, SweepStage
from compress.search.executor import RecipeOutcome
from compress.search.grid import Grid, GridPoint, setting_of
from compress.search.jobs import Job, JobGraph, is_timed
from compress.search.store import FinishedStage

ID_DIGITS = 12
MeasuredKey = Literal["score", "delta_points", "p50_ms", "speedup", "size_mb", "params"]
MEASURED: tuple[MeasuredKey, ...] = ("score", "delta_points", "p50_ms", "speedup", "size_mb", "params")


@dataclass(frozen=True)
class PointRun:
    """How a point ended; `run` is the manifest of its run folder, if it is finished."""

    point: GridPoint
    outcome: RecipeOutcome
    run: RunDocument | None = None


def sweep_document(
    runs: Sequence[PointRun], grid: Grid, output: Path, store: Path, graph: JobGraph, places: Mapping[str, str]
) -> SweepDocument:
    """Return the document of a sweep; `seconds` is filled in by the caller.

    Args:
        runs: all points.
        grid: values by path.
        output: the folder of the sweep.
        store: the folder of the store.
        graph: the jobs that were run.
        places: where each job ran, by its id; a job in this process, or that was in the store, is missing.
    """
    recipe = runs[0].point.recipe
    points = [_point(run, output) for run in runs]
    settings = [_setting(list(group)) for group in _by_values(points)]
    return {
        "schema": 1,
        "recipe": recipe.name,
        "output": str(output),
        "store": str(store),
        "created": now(),
        "machine": machine.facts(),
        "grid": {path: list(values) for path, values in grid.items()},
        "seeds": list(dict.fromkeys(point["seed"] for point in points)),
        "metric": recipe.task.main_metric if recipe.task else None,
        "baseline": next((stage.sources[0] for stage in reversed(recipe.stages.values()) if stage.verb.name == "eval"), None),
        "settings": settings,
        "points": points,
        "stages": _stages(runs, graph, places),
        "metrics": {setting_of(entry["values"]): _means(entry) for entry in settings},
        "seconds": 0.0,
    }


def _point(run: PointRun, output: Path) -> SweepPoint:
    point, error, manifest = run.point, run.outcome.error, run.run
    row = _measured_row(run, output / point.folder) if manifest else {}
    return {
        "values": dict(point.values),
        "seed": point.seed,
        "folder": point.folder if manifest else None,
        "model": manifest["delivered"] if manifest else None,
        "digest": (artifacts.read_manifest(output / point.folder / "model") or {}).get("digest") if manifest else None,
        "score": row.get("accuracy"),
        "ci95": row.get("ci95"),
        "delta_points": row.get("delta_points"),
        "p50_ms": row.get("p50_ms"),
        "speedup": (row.get("speedup") or {}).get("ratio"),
        "size_mb": row.get("size_mb"),
        "params": row.get("params"),
        "gates": manifest["gates"] if manifest else [],
        "seconds": sum(stage.seconds for stage in run.outcome.stages.values()),
        "failure": _failure(error, run.outcome.failed_stage) if error else None,
    }


def _failure(error: CompressError, stage: str) -> SweepFailure:
    return {"stage": stage, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def _measured_row(run: PointRun, folder: Path) -> Document:
    """Return the row of the report's summary for the model that the run delivers; without an evaluation, with its validation score."""
    rows = {row["model"]: row for row in summary(folder)}
    name = run.run["delivered"] if run.run else None
    row = rows.get(name or "") or next(reversed(rows.values()), {})
    if row.get("accuracy") is not None or name is None or run.point.recipe.task is None:
        return row
    stage = run.outcome.stages[stage_of(name)]
    validation = (stage.manifest.get("metrics") or {}).get("validation")
    return {**row, "accuracy": validation.get(run.point.recipe.task.main_metric) if isinstance(validation, dict) else None}


def _by_values(points: Sequence[SweepPoint]) -> Iterable[Iterable[SweepPoint]]:
    """Yield the points of each combination of values; seeds are innermost."""
    for _, group in itertools.groupby(points, key=lambda point: setting_of(point["values"])):
        yield group


def _setting(points: Sequence[SweepPoint]) -> SweepSetting:
    finished = [point for point in points if point["failure"] is None]
    return {
        "values": points[0]["values"],
        "finished": len(finished),
        "failed": len(points) - len(finished),
        "gates_missed": sum(any(not gate["passed"] for gate in point["gates"]) for point in finished),
        "score": _spread(finished, "score"),
        "delta_points": _spread(finished, "delta_points"),
        "p50_ms": _spread(finished, "p50_ms"),
        "speedup": _spread(finished, "speedup"),
        "size_mb": _spread(finished, "size_mb"),
        "params": _spread(finished, "params"),
    }


def _spread(points: Sequence[SweepPoint], name: MeasuredKey) -> Spread | None:
    """Return mean, sample standard deviation and range of a value over the points that have it."""
    from compress.training.seeds import summarize_metrics

    values = [{name: float(value)} for point in points if (value := point[name]) is not None]
    return summarize_metrics(values)[name] if values else None


def _means(setting: SweepSetting) -> dict[str, float]:
    return {name: spread["mean"] for name in MEASURED if (spread := setting[name]) is not None}


def _stages(runs: Sequence[PointRun], graph: JobGraph, places: Mapping[str, str]) -> list[SweepStage]:
    """Return one entry for each job."""
    done: dict[str, FinishedStage] = {}
    sharing: Counter[str] = Counter()
    for run in runs:
        jobs = graph.job_of[run.point.label]
        sharing.update(jobs.values())
        done |= {jobs[name]: stage for name, stage in run.outcome.stages.items()}
    return [_stage(job, done.get(job.id), sharing[job.id], places.get(job.id, "")) for job in graph.jobs.values()]


def _stage(job: Job, done: FinishedStage | None, points: int, where: str) -> SweepStage:
    return {
        "id": job.id[:ID_DIGITS],
        "stage": job.name,
        "verb": job.stage.verb.name,
        "needs": sorted(need[:ID_DIGITS] for need in job.needs.values()),
        "points": points,
        "timed": is_timed(job.stage),
        "ran": bool(done and done.ran),
        "seconds": done.seconds if done else None,
        "folder": done.folder.name if done else None,
        "digest": done.manifest["digest"] if done else None,
        "where": where,
    }
