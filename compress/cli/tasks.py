"""`compress tasks`."""

from __future__ import annotations

import click

from compress.core import console
from compress.data.presets import presets


@click.group("tasks", short_help="List the task presets.")
def tasks_command() -> None:
    """List the task presets."""


@tasks_command.command("list")
def list_tasks() -> None:
    """List the task presets with their data and metrics."""
    documents = [
        {
            "name": name,
            "kind": spec.kind,
            "text": spec.text,
            "labels": spec.labels,
            "metrics": spec.metrics,
            "max_length": spec.max_length,
            "source": spec.hub.repo if spec.hub else "builtin",
            "description": spec.description,
        }
        for name, spec in presets().items()
    ]
    rows = [[d["name"], d["description"], " + ".join(d["text"]), ", ".join(d["metrics"]), d["source"]] for d in documents]
    console.result({"tasks": documents}, lambda: console.table(["task", "what it is", "text", "metrics", "data"], rows))
