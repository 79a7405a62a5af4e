"""A finished run as its documents describe it, read from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from compress.core import artifacts, files
from compress.core.errors import UsageError
from compress.core.files import Document
from compress.models.layout import graph_file

WEIGHTS = {".safetensors", ".onnx", ".data"}  # the files whose size `bench` reports


@dataclass(frozen=True)
class Run:
    """The documents of a finished run. `stages` maps names to manifests, in the recipe's order."""

    manifest: Document
    stages: dict[str, Document]
    sizes_mb: dict[str, float]  # weights on disk, of every stage that wrote a model
    recipe: str  # the resolved recipe's text
    disagreements: list[Document] = field(default_factory=list)  # examples of the last evaluation on which models differ
    delivered: str | None = None  # the model in `model/`: a stage's name, or `slim/2x` for one of several models

    def made_by(self, verb: str) -> dict[str, Document]:
        """Return the manifests of the stages with this verb."""
        return {name: stage for name, stage in self.stages.items() if stage.get("verb") == verb}

    def measured(self, verb: str) -> list[Document]:
        """Return the manifests of the stages with this verb that have results; the report uses the last one."""
        return [stage for stage in self.made_by(verb).values() if stage.get("results")]


def read_run(run_folder: Path) -> Run:
    """Read every document of a run folder.

    Raises:
        UsageError: this is not the folder of a finished run, or its manifest is damaged.
    """
    path = run_folder / "manifest.json"
    if not path.is_file():
        started = (run_folder / "recipe.resolved.yaml").is_file()
        hint = "its run has not finished: run the same `compress run` again" if started else "give the folder that `compress run` wrote"
        raise UsageError(f"{run_folder} is not a finished run folder: it has no manifest.json", hint)
    try:
        manifest = files.read_json(path)
        entries = dict(manifest["stages"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as a run's manifest: {error}", "run the same `compress run` again") from error
    folders = {name: run_folder / entry["folder"] for name, entry in entries.items()}
    stages = {name: {**entries[name], **(artifacts.read_manifest(folder) or {})} for name, folder in folders.items()}
    recipe = run_folder / "recipe.resolved.yaml"
    evaluated = [name for name, stage in stages.items() if stage.get("verb") == "eval" and stage.get("results")]
    return Run(
        manifest=manifest,
        stages=stages,
        sizes_mb={name: size for name, folder in folders.items() if (size := _weights_mb(folder))},
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        disagreements=_disagreements(folders[evaluated[-1]]) if evaluated else [],
        delivered=manifest.get("delivered") or (artifacts.read_manifest(run_folder / "model") or {}).get("stage"),
    )


def _disagreements(folder: Path) -> list[Document]:
    """Return the examples on which two models of an evaluation differ; they come first in its file of errors."""
    from compress.stage import ERRORS_FILE

    examples: list[Document] = []
    try:
        with (folder / ERRORS_FILE).open(encoding="utf-8") as stream:
            for line in stream:
                entry = json.loads(line)
                if not entry["disagree"]:
                    break
                examples.append(entry)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # runs of older versions have no such file; the page leaves the examples out
    return examples


def _weights_mb(folder: Path) -> float:
    paths = graph_file(folder).parent.iterdir() if folder.is_dir() else ()
    return sum(path.stat().st_size for path in paths if path.suffix in WEIGHTS) / 1e6
