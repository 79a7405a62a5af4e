"""What the verbs share: running one stage, and printing what came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from compress import console

Decorator = Callable[[Any], Any]
output_option = click.option("-o", "--output", required=True, type=click.Path(), help="Folder to write; it appears whole or not at all.")
seed_option = click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of every random choice.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an output that compress made from other settings.")


def show_made(document: dict[str, Any]) -> None:
    """Print the outcome of a verb that writes a folder."""

    def human() -> None:
        for split, scores in document.get("metrics", {}).items():
            if isinstance(scores, dict):
                told = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if isinstance(value, float))
                print(f"{split} (n = {scores.get('n', '?')}): {told}")
        print(f"{document['output']}  ({console.duration(document['seconds'])})")

    console.result(document, human)
