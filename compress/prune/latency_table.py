"""What every sublayer costs in the runtime that will serve the model: a measured latency table.

Some fifty small models are timed, interleaved, and the times of sublayers are fitted to theirs: layers of heads alone, of
FFNs alone, single layers, whose text classifier computes one token only, and mixtures of all sizes. The table is kept in the
user's cache, by machine, runtime and dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from compress.core import caches, console, digests, files, machine
from compress.models import shape as shapes
from compress.models.family import TOKEN_HEADS, family_of
from compress.models.model_shape import model_shape
from compress.models.resize import resize
from compress.prune.search import ALIGNMENT, Costs
from compress.prune.serving_clock import Clock, Serving

VERSION = 5
DEPTH = 4  # layers of a timed model: enough to tell one from noise, few enough for memory
VOCABULARY = 1024  # of a timed model: what is looked up costs nothing, what is built does
ROUNDS = 40
KNOTS = (1 / 32, 1 / 12, 1 / 6, 1 / 3, 2 / 3)  # shares of the units of a sublayer between which time grows in a straight line
MIXTURES = 24  # timed models of heads and neurons of all sizes
Shape = tuple[tuple[int, int], ...]  # (heads, ffn) of each layer


def latency_table(model: Any, serving: Serving) -> Costs:
    """Return what a model's sublayers cost in milliseconds, from the cache or measured.

    Args:
        model: dense or pruned; its dimensions count, not its weights, and it is not changed.
        serving: what is timed.
    """
    family, config = family_of(model.config.model_type), model.config
    shape = model_shape(model)
    heads = max(getattr(config, family.heads_key), *(layer.heads for layer in shape.layers))
    ffn = max(getattr(config, family.ffn_key), *(layer.ffn for layer in shape.layers))
    dimensions = [config.model_type, type(model).__name__, shape.hidden, shape.head_size, heads, ffn]
    facts = [VERSION, dimensions, asdict(serving), machine.identity(), machine.versions()]
    path = caches.cache_root() / "latency" / f"{digests.digest_json(facts)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _costs(files.read_json(path)["measured"], heads, ffn)
    console.info(f"  timing sublayers: {serving.describe()}")
    first_token = not type(model).__name__.endswith(tuple(TOKEN_HEADS))
    measured = measure_table(lambda wanted: _times(model, serving, wanted), heads, ffn, first_token)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"measured": measured, "facts": facts})
    except OSError as error:
        console.warn(f"the latency table could not be cached in {path.parent}: {error.strerror}")
    return _costs(measured, heads, ffn)


def measure_table(times: Callable[[Sequence[Shape]], np.ndarray], heads: int, ffn: int, first_token: bool) -> dict[str, Any]:
    """Fit the times of sublayers to the times of small models.

    A model's time is a fixed part, the times of its sublayers by their numbers of units (another one where only the first
    token is computed), and what every normalised sum of all tokens takes. Between knots time grows in a straight line, and
    never falls: the increments are the non-negative least-squares solution (Lawson and Hanson 1974) over all models, of
    relative errors.

    Args:
        times: seconds of models of given shapes, (models,), measured together.
        heads: most heads of a layer.
        ffn: widest FFN.
        first_token: whether the last layers compute the first token only.

    Returns:
        `head_knots`, `ffn_knots` and, at these, `heads`, `neurons`, `last_heads`, `last_neurons` in milliseconds; `fixed`;
        `error`, the mean relative error of the fit.
    """
    from scipy.optimize import nnls

    head_knots, ffn_knots = _knots(heads, 1), _knots(ffn, ALIGNMENT)
    problems = _problems(head_knots, ffn_knots)
    measured = 1e3 * times(problems)
    rows = np.array([_features(shape, head_knots, ffn_knots, first_token) for shape in problems])
    found = nnls(rows / measured[:, None], np.ones(len(problems)))[0]
    fixed, gone = found[0], found[1]
    sizes = [len(knots) - 1 for knots in (head_knots, ffn_knots, head_knots, ffn_knots)]
    parts = np.split(found[2:], np.cumsum(sizes)[:-1])
    over = [np.concatenate([[0.0], np.cumsum(part)]) for part in parts]
    table = {
        "heads": gone + over[0],
        "neurons": gone + over[1],
        "last_heads": over[2] if first_token else gone + over[0],
        "last_neurons": over[3] if first_token else gone + over[1],
    }
    return {
        "head_knots": head_knots,
        "ffn_knots": ffn_knots,
        **{name: values.tolist() for name, values in table.items()},
        "fixed": float(fixed),
        "first_token": first_token,
        "error": float(np.abs(rows @ found / measured - 1).mean()),
    }


def _knots(units: int, step: int) -> list[int]:
    """Return the numbers of units between which time is taken to grow in a straight line, from 0 to all."""
    return sorted({0, *(min(units, max(step, round(units * part / step) * step)) for part in KNOTS), units})


def _problems(head_knots: Sequence[int], ffn_knots: Sequence[int]) -> list[Shape]:
    """Return the shapes to time: nothing, every knot alone, and mixtures of all sizes."""
    n, top = DEPTH, ((1, 0),)
    shapes_of: list[Shape] = [((0, 0),) * n, ((0, 0),), top, ((0, 0),) * (n - 1) + top]
    for h in head_knots[1:]:
        shapes_of += [((h, 0),) * n, ((h, 0),)]
    for w in ffn_knots[1:]:
        shapes_of += [((0, w),) * (n - 1) + top, ((1, w),)]
    draw = np.random.default_rng(0)
    for scale in np.geomspace(1 / 32, 1, MIXTURES):
        sizes = np.minimum(1, scale * np.exp(draw.normal(0, 0.5, (n, 2))))
        shapes_of.append(tuple((round(head_knots[-1] * h), round(ffn_knots[-1] * w / ALIGNMENT) * ALIGNMENT) for h, w in sizes.tolist()))
    return list(dict.fromkeys(shapes_of))


def _features(shape: Shape, head_knots: Sequence[int], ffn_knots: Sequence[int], first_token: bool) -> list[float]:
    """Return what a shape takes of each unknown: fixed, normalised sums, then the increments of the four parts."""
    mixing = [number for number, (heads, _) in enumerate(shape) if heads]
    last = (mixing[-1] if mixing else -1) if first_token else len(shape)
    sums = 0.0
    parts = [np.zeros(len(knots) - 1) for knots in (head_knots, ffn_knots, head_knots, ffn_knots)]
    for number, (heads, ffn) in enumerate(shape):
        whole = number < last
        sums += 2 * whole
        parts[0 if whole else 2] += _filled(heads, head_knots)
        parts[1 if whole else 3] += _filled(ffn, ffn_knots)
    return [1.0, sums, *np.concatenate(parts).tolist()]


def _filled(units: int, knots: Sequence[int]) -> np.ndarray:
    """Return how much of each stretch between knots a number of units fills, (knots - 1,)."""
    edges = np.asarray(knots, dtype=np.float64)
    return np.clip((units - edges[:-1]) / np.diff(edges), 0, 1)


def _costs(measured: dict[str, Any], heads: int, ffn: int) -> Costs:
    """Interpolate a fitted table to every number of units."""

    def filled(name: str, knots: str, size: int) -> np.ndarray:
        return np.interp(np.arange(size + 1), measured[knots], measured[name])

    over_heads, over_neurons = filled("heads", "head_knots", heads), filled("neurons", "ffn_knots", ffn)
    if not measured["first_token"]:
        return Costs(over_heads, over_neurons, measured["fixed"])
    last = filled("last_heads", "head_knots", heads), filled("last_neurons", "ffn_knots", ffn)
    return Costs(over_heads, over_neurons, measured["fixed"], last)


def _times(model: Any, serving: Serving, wanted: Sequence[Shape]) -> np.ndarray:
    """Time models of the wanted shapes in turns; returns seconds, (models,).

    Each is compared with one reference of a middle size, in the same rounds, so that a machine that slows down on the way
    does not bend the table.
    """
    middle = sorted(wanted, key=lambda shape: sum(heads * 128 + ffn for heads, ffn in shape))[2 * len(wanted) // 3]
    clock = Clock(skeleton(model, middle), serving)
    shares = np.ones(len(wanted))
    with console.progress("timing sublayers", len(wanted)) as advance:
        for number, shape in enumerate(wanted):
            if shape != middle:
                shares[number] = 1 / clock.speedup(skeleton(model, shape), ROUNDS)[0]
            advance()
    return shares * clock.seconds


def skeleton(model: Any, wanted: Shape) -> Any:
    """Return a model of other layers and few words, with random weights: what it computes is nothing, its time is real."""
    import transformers

    family = family_of(model.config.model_type)
    config = copy.deepcopy(model.config.to_dict())
    config.pop(shapes.CONFIG_KEY, None)
    config[family.layers_key] = len(wanted)
    config["vocab_size"] = max(VOCABULARY, (config.get("pad_token_id") or 0) + 1)
    shape = model_shape(model)
    small = getattr(transformers, type(model).__name__)(transformers.AutoConfig.for_model(**config))
    resize(small, shapes.Shape(shape.hidden, shape.head_size, tuple(shapes.LayerShape(heads, ffn) for heads, ffn in wanted)))
    with torch.no_grad():
        for parameter in small.parameters():  # no denormal numbers, which slow a processor down
            parameter.normal_(std=0.02)
    return small.eval()
