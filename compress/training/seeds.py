"""The same training with several seeds: one folder per seed, and statistics of their scores."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from compress.core import console
from compress.results import TrainedDocument
from compress.results.checkpoints import SeedDocument, Spread
from compress.settings import TrainSettings
from compress.stage import Inputs

SeededSettings = TypeVar("SeededSettings", bound=TrainSettings)


def run_seeds(
    run: Callable[[Inputs, SeededSettings, Path], TrainedDocument], inputs: Inputs, settings: SeededSettings, output: Path
) -> TrainedDocument:
    """Run a stage once for each of `settings.seeds`, into the folders `seed-0` and so on.

    Returns:
        The document of the seed with the best validation score, with the mean metrics of all seeds as `metrics`, and in addition:
        `models`, each seed's own document; `seeds`, statistics of each metric; `chosen`, the folders of the `best` and the `median`
        score (of an even number of seeds the lower middle).

    Raises:
        Diverged: the training of a seed diverged.
    """
    models: list[SeedDocument] = []
    assert settings.seeds  # noqa: S101 (the caller checked)
    for seed in settings.seeds:
        console.info(f"  seed {seed} ({len(models) + 1} of {len(settings.seeds)})")
        folder = output / f"seed-{seed}"
        folder.mkdir()
        result = run(replace(inputs, seed=seed), settings.model_copy(update={"seeds": None}), folder)
        models.append({"folder": folder.name, "seed": seed, **result})
    main_metric = inputs.task.spec.main_metric
    ranked = sorted(models, key=lambda model: -model["metrics"]["validation"][main_metric])
    best, median = ranked[0], ranked[len(ranked) // 2]
    summaries = {split: summarize_metrics([model["metrics"][split] for model in models]) for split in best["metrics"]}
    return {  # pyright: ignore[reportReturnType] (the fields of the best seed's document)
        **{key: value for key, value in best.items() if key not in ("folder", "seed")},
        "metrics": {
            split: {"n": best["metrics"][split]["n"]} | {name: entry["mean"] for name, entry in summary.items()}
            for split, summary in summaries.items()
        },
        "seeds": summaries,
        "chosen": {"metric": main_metric, "best": best["folder"], "median": median["folder"]},
        "models": models,
    }


def summarize_metrics(scores: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return mean, sample standard deviation (n - 1), minimum, maximum and number of values of each metric except `n`."""
    summaries: dict[str, Spread] = {}
    for name in scores[0]:
        if name != "n":
            values = [float(score[name]) for score in scores]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            summaries[name] = {
                "mean": statistics.fmean(values), "std": deviation, "min": min(values), "max": max(values), "n": len(values)
            }  # fmt: skip
    return summaries
