"""How well searches do on many made-up landscapes: `python -m tests.unit.search.study [COUNT]` prints a table by budget and limit."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from compress.search.choice import choose
from compress.search.space import TARGETS
from tests.unit.search.landscape import FakeLab, Landscape, search_on

LONG = 5000.0  # training steps after which a size has brought back what it can
FLOAT_GRAPH = 1.7  # speedups below this are those of the float graph


@dataclass(frozen=True)
class Summary:
    """What many searches reached.

    Attributes:
        true_drop: mean true drop of the answers, in points.
        beyond: share of answers whose true drop is beyond the limit.
        far_beyond: the same, by more than half a point.
        speed: geometric mean of the answer's speedup over that of the best size that keeps the limit after long training.
        observed: mean drop of the answers on validation, in points.
        spent: largest share of the budget that a search took.
    """

    true_drop: float
    beyond: float
    far_beyond: float
    speed: float
    observed: float
    spent: float


def landscapes(count: int) -> list[Landscape]:
    """Return random landscapes, from models that hardly lose by pruning to models that lose much."""
    rng = np.random.default_rng(0)
    return [
        Landscape(
            int8=rng.uniform(3, 5.5),
            loss=float(np.exp(rng.uniform(np.log(0.15), np.log(1.5)))),
            power=rng.uniform(1.2, 1.8),
            floor=rng.uniform(0, 0.4),
            half=rng.uniform(150, 800),
            step=rng.uniform(0.15, 0.35),
            error=rng.uniform(0.6, 1.1),
            luck=luck,
            uneven=0.3,
        )
        for luck in range(count)
    ]


def study(count: int, budget: float = 2700.0, limit: float = 1.0) -> Summary:
    """Search on many landscapes."""
    drops, speeds, observed, spent = [], [], [], []
    for truth in landscapes(count):
        lab = FakeLab(truth)
        search = search_on(lab, budget=budget, max_drop=limit)
        search.run()
        answer, _ = choose(search.trials)
        assert answer.drop is not None
        assert answer.speed is not None
        drops.append(lab.models[answer.model].drop)
        observed.append(answer.drop.points)
        ideal = max([1.0, *(size for size in TARGETS if truth.trained(truth.pruned(size), LONG) + 0.2 <= limit)])
        reached = answer.speed.ratio if answer.speed.ratio > FLOAT_GRAPH else 1.6
        speeds.append(math.log(reached / truth.int8 / ideal))
        spent.append(lab.spent() / budget)
    beyond, far_beyond = (float(np.mean(np.array(drops) > limit + by)) for by in (0.0, 0.5))
    return Summary(float(np.mean(drops)), beyond, far_beyond, math.exp(float(np.mean(speeds))), float(np.mean(observed)), max(spent))


def main(count: int) -> None:
    """Print the table."""
    print("| budget | limit | true drop | beyond | beyond by 0.5 | speed, share of the best | drop on validation | time, at most |")
    print("|---|---|---|---|---|---|---|---|")
    for budget, limit in ((900, 1.0), (1500, 1.0), (2700, 1.0), (5400, 1.0), (2700, 0.5), (2700, 2.0)):
        found = study(count, budget, limit)
        print(
            f"| {budget / 60:g} min | {limit:g} | {found.true_drop:.2f} | {100 * found.beyond:.0f} % | {100 * found.far_beyond:.0f} % | "
            f"{100 * found.speed:.0f} % | "
            f"{found.observed:.2f} | {100 * found.spent:.0f} % |"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
