"""Run recipes: every stage atomically, skipping what is done, with provenance; and single verbs by the same path."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from compress.core import artifacts, console, digests, files, locks, machine, outputs, processes
from compress.core.errors import CompressError, Diverged, GateMissed, UsageError
from compress.core.version import __version__
from compress.data.metrics import points_lost
from compress.recipe.plan import MANIFEST_SCHEMA, Workspace, check_inputs, finished, stage_folders
from compress.recipe.schema import Recipe, Stage, stage_of
from compress.stage import Inputs, is_spec

Document = dict[str, Any]


def run_recipe(recipe: Recipe, output: Path) -> Document:
    """Run a recipe in its run folder, going on where an earlier run stopped; returns the run's manifest.

    Raises:
        GateMissed: after everything is written, if a gate was missed.
        CompressError: whatever a stage raises; finished stages stay, the failed one leaves nothing.
    """
    return processes.run_led(lambda: _run_recipe(recipe, output), lambda order: _take_part(recipe, order))


def _run_recipe(recipe: Recipe, output: Path) -> Document:
    output = _nameable(output)
    outputs.check_output(output, [])
    if output.is_dir() and any(output.iterdir()) and not (output / "recipe.resolved.yaml").is_file():
        raise UsageError(f"{output} is not empty and is not a run folder", "choose another folder with -o")
    with locks.locked(output):
        check_inputs(recipe)
        output.mkdir(exist_ok=True)
        files.write_text(output / "recipe.resolved.yaml", yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True))
        with _events(output / "events.jsonl"):
            return _run_stages(recipe, output)


def resolved(recipe: Recipe) -> Document:
    """Return the recipe with every default written out."""
    stages = {}
    for name, stage in recipe.stages.items():
        sources: Any = list(stage.sources) if stage.verb.many else stage.sources[0]
        names = {"from": sources} if stage.student is None else {"student": stage.student}
        teacher = {"teacher": [stage.teacher, *stage.more_teachers] if stage.more_teachers else stage.teacher} if stage.teacher else {}
        seed = {} if getattr(stage.settings, "seeds", None) else {"seed": stage.seed}
        stages[name] = {"do": stage.verb.name, **names, **teacher, **seed, **stage.settings.model_dump(mode="json")}
    task = recipe.task.model_dump(mode="json", exclude_none=True, exclude_defaults=True) if recipe.task else None
    top = {"schema": 1, "name": recipe.name, "seed": recipe.seed, "model": recipe.model, "task": task}
    return {
        **{key: value for key, value in top.items() if value is not None},
        "gates": recipe.gates.model_dump(exclude_none=True),
        "stages": stages,
    }


def _run_stages(recipe: Recipe, output: Path) -> Document:
    from compress import report

    workspace = Workspace(recipe)
    started = time.monotonic()
    manifests: dict[str, Document] = {}
    ran = 0
    console.event("run started", recipe=recipe.name)
    for number, (name, folder) in enumerate(stage_folders(recipe, output).items(), 1):
        stage = recipe.stages[name]
        title = f"[{number}/{len(recipe.stages)}] {name} ({stage.verb.name})"
        key = workspace.key(stage)
        manifest = finished(folder, key)
        if manifest is not None:
            console.info(f"{title}: unchanged, skipped")
            console.event("stage skipped", stage=name)
        else:
            console.info(title)
            console.event("stage started", stage=name)
            (output / "manifest.json").unlink(missing_ok=True)  # what it says no longer holds
            manifest = execute(stage, workspace, folder, key)
            ran += 1
            console.event("stage finished", stage=name, seconds=manifest["seconds"], metrics=manifest.get("metrics"))
            console.info(f"  done in {console.duration(manifest['seconds'])}")
        workspace.finish(name, folder, manifest)
        manifests[name] = manifest
    gates = check_gates(recipe, manifests)
    document = _run_manifest(recipe, output, workspace, manifests, gates)
    document |= {"seconds": time.monotonic() - started, "stages_run": ran, "stages_skipped": len(manifests) - ran}
    document["delivered"] = _deliver(recipe, output, workspace, manifests)
    files.write_json(output / "manifest.json", document)
    report.write(output)
    console.event("run finished", seconds=document["seconds"])
    missed = [gate for gate in gates if not gate["passed"]]
    if missed:
        raise GateMissed(
            "; ".join(f"the gate {gate['gate']} {gate['limit']:g} was missed: {gate['measured']:.2f} ({gate['where']})" for gate in missed),
            f"everything is written; the report is {output / 'report.html'}",
            document,
        )
    return document


def execute(stage: Stage, workspace: Workspace, folder: Path, key: str, card: bool = False) -> Document:
    """Run one stage into a temporary folder, write its manifest last, rename it into place; returns the manifest.

    With `card` a graph gets a model card. That is no part of what the manifest vouches for, so it may be edited. What training
    kept to go on from, when an earlier call was killed, is used, and removed at the end.
    """
    resume = outputs.resume_folder(folder, key)
    with files.atomic_folder(folder) as temporary:
        try:
            seconds, result = _call(stage, workspace, temporary, resume)
        except Diverged as error:
            if not (temporary / "config.json").is_file():
                raise
            shutil.rmtree(resume, ignore_errors=True)
            raise _kept(error, stage, temporary, folder) from error
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "kind": stage.verb.makes,
            "verb": stage.verb.name,
            "stage": stage.name,
            "key": key,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "seed": stage.seed,
            "settings": stage.settings.model_dump(mode="json"),
            "task": workspace.task.spec.model_dump(mode="json", exclude_none=True) if workspace.task else None,
            "inputs": {name: workspace.digest(name) for name in stage.references()},
            "lineage": _lineage(stage, workspace),
            "versions": machine.versions() | {"compress": __version__},
            **result,
        }
        if stage.verb.makes == "checkpoint":
            manifest |= _openable(temporary)
            _tell_each(temporary, manifest)
        manifest["files"] = artifacts.digest_files(temporary)
        manifest["digest"] = digests.digest_json(console.finite(result)) if stage.verb.makes == "measurement" else _model_digest(temporary)
        if card and stage.verb.makes == "onnx":
            _write_card(temporary, folder.name, stage.name, manifest)
        files.write_json(temporary / artifacts.MANIFEST, console.finite(manifest))
    shutil.rmtree(resume, ignore_errors=True)
    return manifest


def _openable(folder: Path) -> Document:
    """Tell as `plain` whether transformers opens a checkpoint as what it is: pruned, factorized, shared or adapted ones it does not."""
    from compress.models.config import read_config
    from compress.models.family import family_of
    from compress.models.shape import CONFIG_KEY

    if not (folder / "config.json").is_file():
        return {}
    config = read_config(folder)
    return {"plain": CONFIG_KEY not in config and not family_of(config["model_type"]).recurrent}


def _tell_each(folder: Path, manifest: Document) -> None:
    """Write a manifest beside each of several models that a stage made, as if it had been made alone.

    They have no cache key, and are among the files that the stage's own manifest vouches for.
    """
    whole = {key: value for key, value in manifest.items() if key not in ("key", "models", "seeds", "chosen", "curve")}
    for model in manifest.get("models") or []:
        own = folder / model["folder"]
        part = {**whole, **model, **_openable(own)}
        *before, last = whole["lineage"]
        if "seed" in model:
            part["settings"] = {**whole["settings"], "seeds": None}
            last = {**last, "settings": part["settings"], "seed": model["seed"]}
        part |= {"lineage": [*before, last], "files": artifacts.digest_files(own), "digest": _model_digest(own)}
        files.write_json(own / artifacts.MANIFEST, console.finite(part))


def _write_card(output: Path, title: str, name: str, manifest: Document) -> None:
    from compress.report.card import model_card

    (output / artifacts.CARD).write_text(model_card(title, name, {name: manifest}), encoding="utf-8")


def _kept(error: Diverged, stage: Stage, made: Path, folder: Path) -> Diverged:
    """Keep the model of the best epoch before a training diverged, beside the output that there is not; returns the error to raise."""
    kept = folder.with_name(f"{folder.name}.diverged")
    if kept.exists() and artifacts.read_manifest(kept) is None:
        return error  # not of our making
    with files.atomic_folder(kept) as temporary:
        shutil.copytree(made, temporary, dirs_exist_ok=True)
        files.write_json(temporary / artifacts.MANIFEST, {"schema": MANIFEST_SCHEMA, "verb": stage.verb.name, "diverged": error.message})
    return Diverged(f"{error.message}; the best epoch before is kept in {kept}", error.hint)


def _model_digest(folder: Path) -> str:
    from compress.models.reference import digest_model

    return digest_model(folder)


def _call(stage: Stage, workspace: Workspace, output: Path, resume: Path | None = None) -> tuple[float, Document]:
    """Call the stage's function with the folders of its inputs; returns its seconds and its result."""
    inputs, function = _inputs(stage, workspace, resume), stage.verb.load()
    started = time.monotonic()
    with processes.summon(_order(stage, inputs)) if stage.verb.together else nullcontext():
        result = function(inputs, stage.settings, output)
    return time.monotonic() - started, result


def _inputs(stage: Stage, workspace: Workspace, resume: Path | None = None) -> Inputs:
    """Return the folders of a stage's inputs, with its task and seed."""
    student: Path | str | None = None
    if stage.verb.name == "distill":
        wanted = stage.student or stage.sources[0]
        student = wanted if is_spec(wanted) else workspace.folder(wanted)
    return Inputs(
        sources={name.removeprefix("./"): workspace.folder(name) for name in stage.sources if not is_spec(name)},
        seed=stage.seed,
        task_or_none=workspace.task,
        teacher=workspace.folder(stage.teacher) if stage.teacher else None,
        student=student,
        more_teachers=tuple(workspace.folder(name) for name in stage.more_teachers),
        resume=resume,
    )


def _order(stage: Stage, inputs: Inputs) -> Document:
    """Return what another process must know to take part in a stage."""
    folders = {"teacher": inputs.teacher, "resume": inputs.resume, "student": inputs.student if isinstance(inputs.student, Path) else None}
    return {
        "stage": stage.name,
        "sources": {name: str(path) for name, path in inputs.sources.items()},
        "folders": {name: str(path) for name, path in folders.items() if path},
        "spec": inputs.student if isinstance(inputs.student, str) else None,
        "more_teachers": [str(path) for path in inputs.more_teachers],
    }


def _take_part(recipe: Recipe, order: Document) -> None:
    """Do another process's part of a stage; what it returns is the first one's to write."""
    stage = recipe.stages[order["stage"]]
    folders: dict[str, Any] = {name: Path(path) for name, path in order["folders"].items()}
    inputs = Inputs(
        sources={name: Path(path) for name, path in order["sources"].items()},
        seed=stage.seed,
        task_or_none=Workspace(recipe).task,
        more_teachers=tuple(Path(path) for path in order["more_teachers"]),
        **{"student": order["spec"], **folders},
    )
    with tempfile.TemporaryDirectory() as scratch:
        stage.verb.load()(inputs, stage.settings, Path(scratch))


def _lineage(stage: Stage, workspace: Workspace) -> list[Document]:
    """Return what was done to the model so far, oldest first, this stage last."""
    if stage.verb.makes == "measurement":
        return []
    source = stage.sources[0] if stage.sources else stage.teacher
    before = (artifacts.read_manifest(workspace.folder(source)) or {}).get("lineage", []) if source else []
    if not before and source:
        before = [{"model": source if source != "model" else workspace.recipe.model}]
    return [*before, {"verb": stage.verb.name, "settings": stage.settings.model_dump(mode="json"), "seed": stage.seed}]


def run_single(recipe: Recipe, output: Path | None, overwrite: bool = False) -> Document:
    """Run a one-stage recipe whose output folder is the artifact itself; a measurement needs no folder.

    Returns the stage's manifest with `output` added. An output that this very call made before is left as it is.

    Raises:
        UsageError: the output folder holds something else.
    """
    return processes.run_led(lambda: _run_single(recipe, output, overwrite), lambda order: _take_part(recipe, order))


def _run_single(recipe: Recipe, output: Path | None, overwrite: bool) -> Document:
    (stage,) = recipe.stages.values()
    workspace = Workspace(recipe)
    if processes.launched() > 1 and not stage.verb.together:
        raise UsageError(f"{stage.verb.name} runs in one process, and there are {processes.launched()}", "start it without a launcher")
    if output is None:
        with tempfile.TemporaryDirectory() as scratch:
            seconds, result = _call(stage, workspace, Path(scratch))
            return {"output": None, "seconds": seconds, **result}
    output = _nameable(output)
    sources = [workspace.folder(name) for name in stage.references()]
    outputs.check_output(output, sources)
    if output.is_mount():
        raise UsageError(f"{output} is a mount point, which cannot be replaced whole", "name a folder inside it with -o")
    with locks.locked(output):
        check_inputs(recipe)
        key = workspace.key(stage)
        manifest = finished(output, key) if output.exists() else None
        if manifest is not None:
            console.info(f"{output} is up to date: made before by the same settings, model, data and code")
        else:
            _check_free(output, overwrite)
            manifest = execute(stage, workspace, output, key, card=True)
    return {"output": str(output), **manifest}


def plan_single(recipe: Recipe) -> Document:
    """Return the plan of a one-stage recipe whose verb can tell one (`plan` beside its `run`); nothing is written."""
    (stage,) = recipe.stages.values()
    workspace = Workspace(recipe)
    check_inputs(recipe)
    return stage.verb.load("plan")(_inputs(stage, workspace), stage.settings)


def _nameable(output: Path) -> Path:
    """Return a folder's real path where its name will not do for siblings to be named after: `.`, `..`, a symlink."""
    return output.resolve() if output.name in {"", ".."} or output.is_symlink() else output


def _check_free(output: Path, overwrite: bool) -> None:
    if not output.exists() or not any(output.iterdir()):
        return
    ours = artifacts.read_manifest(output) is not None
    if ours and overwrite:
        return
    if ours:
        raise UsageError(
            f"{output} exists already, made from other settings or inputs", "choose another folder with -o, or pass --overwrite"
        )
    raise UsageError(f"{output} is not empty and was not made by compress", "choose another folder with -o")


def check_gates(recipe: Recipe, manifests: dict[str, Document]) -> list[Document]:
    """Hold the last evaluation and the last benchmark against the recipe's gates."""
    gates: list[Document] = []
    done = {stage.verb.name: manifests[name] for name, stage in recipe.stages.items()}
    if recipe.gates.max_drop is not None:
        document = done["eval"]
        first, last = document["results"][0], document["results"][-1]
        main = document["main_metric"]
        drop = points_lost(first["metrics"][main], last["metrics"][main])
        where = f"points of {main} on {document['split']}, n = {document['n']}, {last['model']} against {first['model']}"
        gates.append(_gate("max_drop", recipe.gates.max_drop, drop, drop <= recipe.gates.max_drop, where))
    if recipe.gates.min_speedup is not None:
        results = done["bench"]["results"]
        cell = {key: results[0][key] for key in ("threads", "batch_size", "seq_len", "lengths")}
        last = [entry for entry in results if all(entry[key] == value for key, value in cell.items())][-1]
        ratio = last["speedup"]["ratio"]
        shape = f"batch {cell['batch_size']}, length {cell['seq_len']}, threads {cell['threads']}"
        where = f"{last['model']} against {last['speedup']['vs']}, {shape}"
        gates.append(_gate("min_speedup", recipe.gates.min_speedup, ratio, ratio >= recipe.gates.min_speedup, where))
    return gates


def _gate(name: str, limit: float, measured: float, passed: bool, where: str) -> Document:
    return {"gate": name, "limit": limit, "measured": measured, "passed": passed, "where": where}


def _run_manifest(recipe: Recipe, output: Path, workspace: Workspace, manifests: dict[str, Document], gates: list[Document]) -> Document:
    return {
        "schema": MANIFEST_SCHEMA,
        "recipe": recipe.name,
        "output": str(output),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "machine": machine.facts(),
        "model": {"reference": recipe.model, "digest": workspace.digest("model")} if recipe.model else None,
        "data": {"task": workspace.task.spec.name, "fingerprint": workspace.task.fingerprint} if workspace.task else None,
        "seeds": {name: stage.seed for name, stage in recipe.stages.items()},
        "stages": {
            name: {
                "verb": manifest["verb"],
                "folder": f"stages/{number:02d}-{name}",
                "key": manifest["key"],
                "digest": manifest["digest"],
                "seconds": manifest["seconds"],
            }
            for number, (name, manifest) in enumerate(manifests.items(), 1)
        },
        "gates": gates,
        "metrics": {name: manifest.get("metrics") for name, manifest in manifests.items()},
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, or None for an installed package."""
    here = Path(__file__)
    try:
        for arguments in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):  # ours, not a repository around us
            command = ["git", "-C", str(here.parent), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _deliver(recipe: Recipe, output: Path, workspace: Workspace, manifests: dict[str, Document]) -> str | None:
    """Copy the model that the gates judge (the last one measured, else the last one made) into `model/`, with a card.

    Returns its name as it was measured: a stage's, or with that of one of its models, `slim/2x`.
    """
    from compress.report.card import model_card

    made = [name for name, stage in recipe.stages.items() if stage.verb.makes != "measurement"]
    if not made:
        return None
    measured = [stage.sources[-1] for stage in recipe.stages.values() if stage.verb.many and stage_of(stage.sources[-1]) in made]
    name = (measured or made)[-1]
    if name in made and manifests[name].get("models"):  # nothing was said of which: the best seed, or the last target
        name = f"{name}/{'best' if 'chosen' in manifests[name] else manifests[name]['models'][-1]['folder']}"
    source = workspace.folder(name)
    manifest = manifests.get(name) or artifacts.read_manifest(source) or manifests[stage_of(name)]
    delivered = artifacts.read_manifest(output / "model")
    card = model_card(recipe.name, name, {**manifests, name: manifest})
    readme = output / "model" / artifacts.CARD
    if delivered and delivered.get("digest") == manifest["digest"] and readme.is_file() and readme.read_text(encoding="utf-8") == card:
        return name
    with files.atomic_folder(output / "model") as temporary:
        for path in source.iterdir():
            if path.is_file():
                (temporary / path.name).write_bytes(path.read_bytes())
        (temporary / artifacts.CARD).write_text(card, encoding="utf-8")
    return name


@contextmanager
def _events(path: Path) -> Iterator[None]:
    """Append every event to a file, one JSON document a line, each with its time."""
    with path.open("a", encoding="utf-8") as stream:

        def write(event: Document) -> None:
            stream.write(json.dumps({"time": datetime.now(UTC).isoformat(), **console.finite(event)}, default=str) + "\n")
            stream.flush()

        observer: Callable[[Document], None] = write
        with console.observed(observer):
            try:
                yield
            except CompressError as error:
                console.event("failed", message=error.message, exit_code=error.exit_code)
                raise
            except KeyboardInterrupt:
                console.event("interrupted")
                raise
