"""The same training with several seeds: a folder each, and how far the scores are apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.core import console
from compress.settings import TrainSettings
from compress.stage import Inputs

Document = dict[str, Any]


def by_seed(run: Callable[[Inputs, Any, Path], Document], inputs: Inputs, settings: TrainSettings, output: Path) -> Document:
    """Run a stage once for each of `settings.seeds`, into `seed-0` and so on.

    Returns:
        The document of the seed with the best validation score, with the means of all as `metrics`; beside that `models`, each
        seed's own document; `seeds`, the spread of each metric; `chosen`, the folders of the `best` and the `median` score.

    Raises:
        Diverged: one of them did.
    """
    models: list[Document] = []
    assert settings.seeds  # noqa: S101 (the caller checked)
    for seed in settings.seeds:
        console.info(f"  seed {seed} ({len(models) + 1} of {len(settings.seeds)})")
        folder = output / f"seed-{seed}"
        folder.mkdir()
        alone = settings.model_copy(update={"seeds": None})
        result = run(replace(inputs, seed=seed), alone, folder)
        models.append({"folder": folder.name, "seed": seed, **result})
    main = inputs.task.spec.main_metric
    ranked = sorted(models, key=lambda model: -model["metrics"]["validation"][main])
    best, median = ranked[0], ranked[len(ranked) // 2]
    found = {split: spread([model["metrics"][split] for model in models]) for split in best["metrics"]}
    means = {split: {name: entry["mean"] for name, entry in metrics.items()} for split, metrics in found.items()}
    sizes = {split: {"n": best["metrics"][split]["n"]} for split in means}
    return {
        **{key: value for key, value in best.items() if key not in ("folder", "seed")},
        "metrics": {split: sizes[split] | means[split] for split in means},
        "seeds": found,
        "chosen": {"metric": main, "best": best["folder"], "median": median["folder"]},
        "models": models,
    }


def spread(scores: list[dict[str, float]]) -> dict[str, Document]:
    """Return mean, sample standard deviation (n - 1), least, greatest and number of each metric."""
    found = {}
    for name in scores[0]:
        if name != "n":
            values = [float(score[name]) for score in scores]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            found[name] = {"mean": statistics.fmean(values), "std": deviation, "min": min(values), "max": max(values), "n": len(values)}
    return found
