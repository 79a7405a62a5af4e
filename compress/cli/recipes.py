"""`compress recipes`."""

from __future__ import annotations

from pathlib import Path

import click

from compress.core import console, yaml_file
from compress.core.errors import UsageError
from compress.recipe import load


@click.group("recipes", short_help="List, show or copy the ready recipes.")
def recipes_command() -> None:
    """List, show or copy the ready recipes."""


@recipes_command.command("list")
def list_recipes() -> None:
    """List the ready recipes."""
    rows = [[name, str(yaml_file.read(path).get("description", ""))] for name, path in load.ready_recipes().items()]
    console.result(
        {"recipes": [{"name": name, "description": text} for name, text in rows]}, lambda: console.table(["recipe", "what it does"], rows)
    )


@recipes_command.command("show")
@click.argument("name")
def show_recipe(name: str) -> None:
    """Print a recipe."""
    path = load.find(name)
    text = path.read_text(encoding="utf-8")
    console.result({"name": name, "text": text}, lambda: print(text, end=""))


@recipes_command.command("copy")
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
def copy_recipe(name: str, target: Path | None) -> None:
    """Copy a recipe to a file, by default NAME.yaml in this folder."""
    path = load.find(name)
    target = target or Path(path.name)
    if target.is_dir():
        target = target / path.name
    if target.exists():
        raise UsageError(f"{target} already exists", "choose another file: compress recipes copy NAME FILE")
    target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    console.result({"output": str(target)}, lambda: print(f"{target}: edit it, then run it with 'compress run {target}'"))
