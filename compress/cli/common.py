"""What the verbs share: running one stage, and printing what came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from compress.core import console

Decorator = Callable[[Any], Any]
output_option = click.option("-o", "--output", required=True, type=click.Path(), help="Folder to write; it appears whole or not at all.")
seed_option = click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of every random choice.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an output that compress made from other settings.")


def given_seed(seed: int) -> int | None:
    """Return the value of `--seed`, None where it is the default: beside `--seeds` nobody gave it."""
    source = click.get_current_context().get_parameter_source("seed")
    return None if source is ParameterSource.DEFAULT else seed


def show_made(document: dict[str, Any]) -> None:
    """Print the outcome of a verb that writes a folder."""

    def human() -> None:
        if "seeds" in document:
            _show_spread(document)
        else:
            for split, scores in document.get("metrics", {}).items():
                if isinstance(scores, dict):
                    told = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if isinstance(value, float))
                    print(f"{split} (n = {scores.get('n', '?')}): {told}")
        print(f"{document['output']}  ({console.duration(document['seconds'])})")

    console.result(document, human)


def _show_spread(document: dict[str, Any]) -> None:
    """Print what several seeds came to."""
    for split, metrics in document["seeds"].items():
        print(f"{split} (n = {document['metrics'][split]['n']}), {len(document['models'])} seeds:")
        for name, found in metrics.items():
            print(f"  {name} {found['mean']:.4f}, standard deviation {found['std']:.4f}, from {found['min']:.4f} to {found['max']:.4f}")
    chosen = document["chosen"]
    print(f"by {chosen['metric']}: best {chosen['best']}, median {chosen['median']}")
