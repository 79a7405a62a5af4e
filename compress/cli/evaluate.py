"""`compress eval`."""

from __future__ import annotations

from typing import Any

import click

from compress import console
from compress.cli import options
from compress.settings import EvalSettings

KEYS = ("task", "split", "n", "results", "seconds")


@click.command("eval", short_help="Measure accuracy with intervals, paired against the first model.")
@click.argument("models", nargs=-1, required=True)
@options.task_options(required=True)
@options.settings_options(EvalSettings)
def command(models: tuple[str, ...], **values: Any) -> None:
    """Measure accuracy with intervals, paired against the first model.

    Checkpoints and ONNX artifacts, any mix. Intervals are 95 %; p is McNemar's exact test for accuracy and a paired
    bootstrap otherwise.

    \b
    Examples:
      compress eval teacher student int8 --task bbc-news
      compress --json eval int8 --task sst2 --split validation
    """
    from compress import api

    task = options.task_of(values)
    document = api.evaluate(models, task, **options.given(EvalSettings, values))
    console.result({key: document[key] for key in KEYS}, lambda: show(document))


def show(document: dict[str, Any]) -> None:
    """Print the results as a table."""
    names = list(document["results"][0]["metrics"])
    rows = []
    for entry in document["results"]:
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
        rows.append(row)
    title = f"{document['task']}, {document['split']}, n = {document['n']} (in points, 95 % intervals)"
    console.table(["model", *names, "against the first", "p"], rows, title)
