"""What the verbs share: options, and printing the result of a stage that writes a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from compress.cli.options import option
from compress.core import console
from compress.settings.base import ADVANCED, INPUT

OUTPUT = "Folder to write; it is created completely or not at all."

output_option = option("-o", "--output", section=INPUT, required=True, type=click.Path(), metavar="DIR", help=OUTPUT)
optional_output = option("-o", "--output", section=INPUT, type=click.Path(), metavar="DIR", help=OUTPUT)
seed_option = option("--seed", section=ADVANCED, default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Random seed.")
overwrite_option = option("--overwrite", section=INPUT, is_flag=True, help="Replace an output that compress wrote with other settings.")


def given_seed(seed: int) -> int | None:
    """Return the value of `--seed`, or None if it was not given, so that it does not clash with `--seeds`."""
    source = click.get_current_context().get_parameter_source("seed")
    return None if source is ParameterSource.DEFAULT else seed


def show_result(document: dict[str, Any]) -> None:
    """Print the result of a verb that writes a folder."""

    def human() -> None:
        if "seeds" in document:
            _show_spread(document)
        else:
            for split, scores in document.get("metrics", {}).items():
                if isinstance(scores, dict):
                    print(f"{split} (n = {scores.get('n', '?')}): {_in_points(scores)}")
        show_output(document)

    console.result(document, human)


def _in_points(scores: Mapping[str, object]) -> str:
    """Return scores times 100, as `eval` prints them, and the drop in words."""
    from compress.data.metrics import describe_drop

    values = {name: value for name, value in scores.items() if isinstance(value, float)}
    return ", ".join(describe_drop(value) if name == "drop_points" else f"{name} {100 * value:.2f}" for name, value in values.items())


def show_output(document: Mapping[str, Any]) -> None:
    """Print the folder that a verb wrote, and how long it took; of a folder that was up to date, when it was written."""
    folder, took = f"{str(document['output']).rstrip('/')}/", console.duration(document["seconds"])
    if document["up_to_date"]:
        written = document["created"][:16].replace("T", " ")
        print(f"nothing to do: {folder} was written on {written} UTC (in {took}), and these results are from then")
    else:
        print(f"wrote {folder} ({took})")


def _show_spread(document: dict[str, Any]) -> None:
    """Print mean and spread over several seeds."""
    for split, metrics in document["seeds"].items():
        print(f"{split} (n = {document['metrics'][split]['n']}), {len(document['models'])} seeds:")
        for name, spread in metrics.items():
            print(
                f"  {name} {100 * spread['mean']:.2f}, standard deviation {100 * spread['std']:.2f}, "
                f"from {100 * spread['min']:.2f} to {100 * spread['max']:.2f}"
            )
    chosen = document["chosen"]
    print(f"by {chosen['metric']}: best {chosen['best']}, median {chosen['median']}")
