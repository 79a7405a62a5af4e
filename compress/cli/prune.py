"""`compress prune`."""

from __future__ import annotations

from typing import Any

import click

from compress import console
from compress.cli import common, options
from compress.settings import PruneSettings

KEYS = ("output", "target", "method", "predicted_speedup", "measured_speedup", "params", "flops", "layers", "metrics", "seconds")


@click.command("prune", short_help="Remove attention heads and FFN neurons.")
@click.argument("model")
@common.output_option
@options.task_options(required=True)
@options.settings_options(PruneSettings)
@common.seed_option
@common.overwrite_option
def command(model: str, output: str, seed: int, overwrite: bool, **values: Any) -> None:
    """Remove attention heads and FFN neurons.

    Writes a small, fast checkpoint, not a mask: 'compress.load_model(DIR)' and every other verb reload it.

    \b
    Examples:
      compress prune teacher --task bbc-news --target-flops 0.5 -o slim
      compress prune teacher --task sst2 --target-speedup 3 -o slim
      compress prune teacher --task sst2 --target-params 0.3 --method magnitude -o slim
    """
    from compress import api

    task = options.task_of(values)
    document = api.prune(model, task, output, seed=seed, overwrite=overwrite, **options.given(PruneSettings, values))

    def human() -> None:
        print(f"{document['params']:,} parameters, measured {document['measured_speedup']:.2f}x as fast in ONNX Runtime")
        print(f"{document['output']}  ({console.duration(document['seconds'])})")

    console.result({key: document[key] for key in KEYS}, human)
