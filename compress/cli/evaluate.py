"""`compress eval`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compress.cli.options import SectionCommand, given, option, settings_options
from compress.cli.task_options import required_task, task_options
from compress.core import console
from compress.settings import EvalSettings
from compress.settings.base import INPUT

if TYPE_CHECKING:
    from compress.results.measurements import EvalEntry
    from compress.results.objects import EvalResult

KEYS = ("task", "split", "n", "results", "errors", "seconds")


@click.command("eval", cls=SectionCommand, short_help="Measure accuracy with confidence intervals, paired against the first model.")
@click.argument("models", nargs=-1, required=True)
@task_options
@settings_options(EvalSettings)
@option("--per-class", section=INPUT, is_flag=True, help="Print precision, recall and F1 per label, and the confusion matrix.")
@option(
    "--errors",
    section=INPUT,
    metavar="FILE",
    help="Write all misclassified examples to FILE (JSON lines); those on which the models disagree come first.",
)
def eval_command(models: tuple[str, ...], per_class: bool, errors: str | None, **values: object) -> None:
    """Measure accuracy with confidence intervals, paired against the first model.

    Takes any mix of checkpoints and ONNX artifacts. Intervals are 95 %. The p-value is from McNemar's exact test if the metric
    is a share of examples (accuracy, exact match), else from a paired bootstrap over examples. With --beir, an embedder's queries
    also search the first embedder's document vectors ("old index"): may an index of the first one be kept?

    \b
    Examples:
      compress eval teacher student int8 --task bbc-news
      compress --json eval int8 --task sst2 --split validation
      compress eval teacher int8 --task bbc-news --per-class --errors disputed.jsonl
      compress eval teacher student int8 --kind sentence-embedding --beir DIR
    """
    from compress import api

    task = required_task("eval", values)
    document = api.evaluate(models, task, errors=errors, **given(EvalSettings, values))
    console.result({key: document[key] for key in KEYS}, lambda: show_evaluation(document, per_class, _data_name(task, document)))


def _data_name(task: str | Mapping[str, object], document: EvalResult) -> str:
    """Return what the data are called: the task's name, or the file's name of a task without one."""
    file = task.get(document.split) if isinstance(task, Mapping) and "name" not in task else None
    return Path(file).name if isinstance(file, str) else f"{document.task}, {document.split}"


def show_evaluation(document: EvalResult, per_class: bool = False, data_name: str = "") -> None:
    """Print the results as a table; `per_class`: also the scores per label."""
    from compress.data.spec import RANKING_METRICS
    from compress.report.index_note import index_note

    names = list(document.results[0]["metrics"])
    indexed = [entry for entry in document.results if "index" in entry]
    rows = []
    for entry in document.results:
        row = [entry["model"]]
        for name in names:
            low, high = entry["ci95"][name]
            row.append(f"{100 * entry['metrics'][name]:.2f} [{100 * low:.1f}, {100 * high:.1f}]")
        versus = entry.get("vs_first")
        if versus:
            low, high = versus["ci95"]
            row += [f"{100 * versus['delta']:+.2f} [{100 * low:+.1f}, {100 * high:+.1f}]", f"{versus['p_value']:.3f}"]
        else:
            row += ["", ""]
        if indexed:
            row.append(_old_index(entry))
        rows.append(row)
    title = f"{data_name or document.task}, n = {document.n} (in points, 95 % intervals)"
    console.table(["model", *names, "against the first", "p", *(["old index"] if indexed else [])], rows, title)
    for entry in indexed:
        print(index_note(dict(entry)))
    errors = document.errors
    if len(document.results) > 1 and not {"cosine", *RANKING_METRICS} & set(names):  # of vectors and rankings none is right or wrong
        disagreements = f"the models disagree on {errors['disagreements']} of {document.n}"
        print(f"{errors['n']} examples are misclassified by some model; {disagreements}")
    if per_class:
        for entry in document.results:
            show_classes(entry)


def _old_index(entry: EvalEntry) -> str:
    """Return the main metric of a model's queries on the first model's document vectors, with its interval."""
    index = entry.get("index")
    if index is None:
        return ""
    if "vs_first" not in index or "metrics" not in index or "ci95" not in index:
        return "other size"
    name = index["vs_first"]["metric"]
    low, high = index["ci95"][name]
    return f"{100 * index['metrics'][name]:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def show_classes(entry: EvalEntry) -> None:
    """Print a model's per-class table and confusion matrix (rows: true, columns: predicted)."""
    classes = entry.get("per_class")
    if not classes:
        print(f"{entry['model']}: tasks of this kind have no classes")
        return
    rows = []
    for row in classes:
        scores = (row["precision"], row["recall"], row["f1"])
        rows.append([row["label"], *("-" if score is None else f"{100 * score:.1f}" for score in scores), str(row["n"])])
    console.table(["label", "precision", "recall", "f1", "n"], rows, entry["model"])
    if "confusion" in entry:
        labels = [row["label"] for row in classes]
        cells = [[label, *map(str, line)] for label, line in zip(labels, entry["confusion"], strict=True)]
        console.table(["true \\ predicted", *labels], cells, f"{entry['model']}: confusion")
