"""The latency table: what each sublayer costs in the runtime that will serve the model, measured.

Some fifty small models are timed, interleaved, and the times of sublayers are fitted to theirs: models of heads alone, of FFNs
alone, of single layers (whose text classifier computes one token only), and mixtures of all sizes. The table is cached by
machine, runtime and dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Protocol, TypedDict, TypeVar, cast

import numpy as np
import torch

from compress.core import console
from compress.core.caches import measured_once
from compress.models import shape as shapes
from compress.models.build import build_model
from compress.models.family import TOKEN_HEADS, family_of
from compress.models.layers import reads_every_token, repeated_kinds
from compress.models.model_shape import model_shape
from compress.models.resize import resize
from compress.models.shape import kept_tokens
from compress.models.sharing import Owners, share_parameters
from compress.models.types import TransformersModel
from compress.prune.costs import ALIGNMENT, Costs
from compress.prune.serving_clock import Serving, ServingClock

VERSION = 6
DEPTH = 4  # layers of a timed model: enough to average out noise, few enough for memory
VOCABULARY = 1024  # of a timed model: looking tokens up costs no time, building the embeddings does
ROUNDS = 40
# Shares of a sublayer's units; between them time is a straight line. Its smallest width is one, too: what is around its matmuls costs as
# much there as at ten times the width, so a line from a removed sublayer to a wider one would make the smallest too cheap.
KNOTS = (1 / 32, 1 / 12, 1 / 6, 1 / 3, 2 / 3)
TOKEN_SHARES = (0.15, 0.4)  # of the tokens, at which layers that see fewer of them are timed
MIXTURES = 24  # timed models of heads and neurons of all sizes
MeasuredT = TypeVar("MeasuredT")
LayerSizes = tuple[tuple[int, int], ...]  # (heads, ffn) of each layer
TimeModels = Callable[[Sequence[LayerSizes]], np.ndarray]  # seconds of models of given sizes, (models,)


class Once(Protocol):
    """Returns what this run has measured under a name, or measures now; a JSON value."""

    def __call__(self, name: str, measure: Callable[[], MeasuredT], /) -> MeasuredT:
        """Return the measurement."""
        ...


class Table(TypedDict):
    """A fitted table, as it is cached: milliseconds at the knots.

    Attributes:
        head_knots, ffn_knots: numbers of units.
        heads, neurons: of a sublayer with as many units, at these.
        last_heads, last_neurons: the same where only the first token is computed.
        fixed: of what is in every model (embeddings, head).
        first_token: whether the last layers compute the first token only.
        error: the mean relative error of the fit.
    """

    head_knots: list[int]
    ffn_knots: list[int]
    heads: list[float]
    neurons: list[float]
    last_heads: list[float]
    last_neurons: list[float]
    fixed: float
    first_token: bool
    error: float


def token_latency_table(model: TransformersModel, serving: Serving, once: Once | None = None) -> Costs:
    """Return the same as `latency_table`, with what layers cost that see a share of the tokens: measured at other lengths of texts.

    Between the shares that are measured, the time of a sublayer is a straight line.
    """
    shares = [*TOKEN_SHARES, 1.0]
    tables = [
        latency_table(model, replace(serving, seq_len=kept_tokens(serving.seq_len, share)), once)
        for share in shares
    ]  # fmt: skip
    whole = tables[-1]

    def at_shares(before: float, after: float) -> Costs:
        entering, leaving = (_between(tables, shares, share) for share in (before, after))
        last = (entering.last[0], entering.last[1]) if entering.last else None
        return Costs(entering.heads, leaving.neurons, whole.fixed, last)

    return replace(whole, at_shares=at_shares)


def _between(tables: Sequence[Costs], shares: Sequence[float], share: float) -> Costs:
    """Return the costs at a share of the tokens, on the straight line between the two measured ones."""
    upper = int(np.clip(np.searchsorted(shares, share), 1, len(shares) - 1))
    weight = float(np.clip((share - shares[upper - 1]) / (shares[upper] - shares[upper - 1]), 0, 1))
    low, high = tables[upper - 1], tables[upper]

    def mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (1 - weight) * first + weight * second

    last = (mixed(low.last[0], high.last[0]), mixed(low.last[1], high.last[1])) if low.last and high.last else None
    return Costs(mixed(low.heads, high.heads), mixed(low.neurons, high.neurons), high.fixed, last)


def latency_table(model: TransformersModel, serving: Serving, once: Once | None = None) -> Costs:
    """Return what a model's sublayers cost in milliseconds, from the cache or measured now.

    Args:
        model: dense or pruned; only its dimensions matter, and it is not changed.
        serving: how models are served.
        once: returns what this run has used under a name, or calls a function for it; None: nothing was used before.

    Raises:
        ResourceError: the runtime is not installed, or the timing process ended.
    """
    family, config = family_of(model.config.model_type), model.config
    shape = model_shape(model)
    heads = max(getattr(config, family.heads_key), *(layer.heads for layer in shape.layers))
    ffn = max(getattr(config, family.ffn_key), *(layer.ffn for layer in shape.layers))
    first_token = not type(model).__name__.endswith(TOKEN_HEADS) and not reads_every_token(config)
    dimensions = [config.model_type, type(model).__name__, shape.hidden, shape.head_size, heads, ffn]

    def measure() -> dict[str, object]:
        console.info(f"  timing sublayers: {serving.describe()}")
        return dict(measure_table(lambda sizes: time_models(model, serving, sizes), heads, ffn, first_token))

    def cached() -> dict[str, object]:
        return measured_once("latency", [VERSION, dimensions, asdict(serving)], measure)[0]

    table = once(f"latency table, {serving.seq_len} tokens", cached) if once else cached()
    return interpolated(cast("Table", table), heads, ffn)


def measure_table(times: TimeModels, heads: int, ffn: int, first_token: bool) -> Table:
    """Fit the times of sublayers to the times of small models.

    A model's time is the sum of a fixed part, of its sublayers' times by their numbers of units (others where only the first
    token is computed), and of a constant for every residual sum and LayerNorm over all tokens. Between knots, time grows in a
    straight line and never falls: the increments are the non-negative least-squares solution (Lawson and Hanson 1974) of the
    relative errors over all models.

    Args:
        times: returns seconds of models, measured together.
        heads: most heads of a layer.
        ffn: widest FFN.
        first_token: whether the last layers compute the first token only.
    """
    from scipy.optimize import nnls

    head_knots, ffn_knots = _knots(heads, 1), _knots(ffn, ALIGNMENT)
    models = _timed_sizes(head_knots, ffn_knots)
    measured = 1e3 * times(models)
    rows = np.array([_features(sizes, head_knots, ffn_knots, first_token) for sizes in models])
    solution = nnls(rows / measured[:, None], np.ones(len(models)))[0]
    fixed, residual_sum = solution[0], solution[1]
    counts = [len(knots) - 1 for knots in (head_knots, ffn_knots, head_knots, ffn_knots)]
    increments = np.split(solution[2:], np.cumsum(counts)[:-1])
    at_knots = [np.concatenate([[0.0], np.cumsum(part)]) for part in increments]
    over_heads, over_neurons = residual_sum + at_knots[0], residual_sum + at_knots[1]
    return {
        "head_knots": head_knots,
        "ffn_knots": ffn_knots,
        "heads": over_heads.tolist(),
        "neurons": over_neurons.tolist(),
        "last_heads": (at_knots[2] if first_token else over_heads).tolist(),
        "last_neurons": (at_knots[3] if first_token else over_neurons).tolist(),
        "fixed": float(fixed),
        "first_token": first_token,
        "error": float(np.abs(rows @ solution / measured - 1).mean()),
    }


def _knots(units: int, step: int) -> list[int]:
    """Return the numbers of units between which time is a straight line, from 0 and the smallest width to all."""
    return sorted({0, min(units, step), *(min(units, max(step, round(units * part / step) * step)) for part in KNOTS), units})


def _timed_sizes(head_knots: Sequence[int], ffn_knots: Sequence[int]) -> list[LayerSizes]:
    """Return the sizes to time: empty models, every knot alone, and mixtures of all sizes."""
    one_head = ((1, 0),)
    models: list[LayerSizes] = [((0, 0),) * DEPTH, ((0, 0),), one_head, ((0, 0),) * (DEPTH - 1) + one_head]
    for heads in head_knots[1:]:
        models += [((heads, 0),) * DEPTH, ((heads, 0),)]
    for ffn in ffn_knots[1:]:
        models += [((0, ffn),) * (DEPTH - 1) + one_head, ((1, ffn),)]
    draw = np.random.default_rng(0)
    for scale in np.geomspace(1 / 32, 1, MIXTURES):
        shares = np.minimum(1, scale * np.exp(draw.normal(0, 0.5, (DEPTH, 2))))
        models.append(tuple((round(head_knots[-1] * h), round(ffn_knots[-1] * w / ALIGNMENT) * ALIGNMENT) for h, w in shares.tolist()))
    return list(dict.fromkeys(models))


def _features(sizes: LayerSizes, head_knots: Sequence[int], ffn_knots: Sequence[int], first_token: bool) -> list[float]:
    """Return a model's row of the least-squares problem: fixed part, residual sums, then the increments of the four curves."""
    with_attention = [number for number, (heads, _) in enumerate(sizes) if heads]
    last = (with_attention[-1] if with_attention else -1) if first_token else len(sizes)
    sums = 0.0
    parts = [np.zeros(len(knots) - 1) for knots in (head_knots, ffn_knots, head_knots, ffn_knots)]
    for number, (heads, ffn) in enumerate(sizes):
        all_tokens = number < last
        sums += 2 * all_tokens
        parts[0 if all_tokens else 2] += _covered(heads, head_knots)
        parts[1 if all_tokens else 3] += _covered(ffn, ffn_knots)
    return [1.0, sums, *np.concatenate(parts).tolist()]


def _covered(units: int, knots: Sequence[int]) -> np.ndarray:
    """Return how much of each interval between knots a number of units covers, (knots - 1,)."""
    edges = np.asarray(knots, dtype=np.float64)
    return np.clip((units - edges[:-1]) / np.diff(edges), 0, 1)


def interpolated(table: Table, heads: int, ffn: int) -> Costs:
    """Return the costs of every number of heads and neurons, interpolated between the knots of a table."""

    def curve(values: list[float], knots: list[int], units: int) -> np.ndarray:
        return np.interp(np.arange(units + 1), knots, values)

    over_heads = curve(table["heads"], table["head_knots"], heads)
    over_neurons = curve(table["neurons"], table["ffn_knots"], ffn)
    if not table["first_token"]:
        return Costs(over_heads, over_neurons, table["fixed"])
    last_heads = curve(table["last_heads"], table["head_knots"], heads)
    last_neurons = curve(table["last_neurons"], table["ffn_knots"], ffn)
    return Costs(over_heads, over_neurons, table["fixed"], (last_heads, last_neurons))


def time_models(model: TransformersModel, serving: Serving, models: Sequence[LayerSizes]) -> np.ndarray:
    """Return the seconds of models of given sizes, (models,).

    Each is timed in alternation with a reference of middle size, so that a machine that slows down meanwhile does not bend the
    table.
    """
    middle = sorted(models, key=lambda sizes: sum(heads * 128 + ffn for heads, ffn in sizes))[2 * len(models) // 3]
    clock = ServingClock(skeleton(model, middle), serving)
    ratios = np.ones(len(models))
    with console.progress("timing sublayers", len(models)) as advance:
        for number, sizes in enumerate(models):
            if sizes != middle:
                ratios[number] = 1 / clock.speedup(skeleton(model, sizes), ROUNDS)[0]
            advance()
    return ratios * clock.seconds


def skeleton(model: TransformersModel, sizes: LayerSizes, shared: Owners = ()) -> TransformersModel:
    """Return a model with layers of given sizes, a small vocabulary and random weights: meaningless outputs, realistic times."""
    import transformers

    family = family_of(model.config.model_type)
    config = copy.deepcopy(model.config.to_dict())
    config.pop(shapes.CONFIG_KEY, None)
    config[family.layers_key] = len(sizes)
    if kinds := config.get("layer_types"):
        config["layer_types"] = repeated_kinds(kinds, len(sizes))
    if not family.positions_after_padding and (config.get("pad_token_id") or 0) >= VOCABULARY:
        config["pad_token_id"] = 0
    config["vocab_size"] = max(VOCABULARY, (config.get("pad_token_id") or 0) + 1)
    shape = model_shape(model)
    small = build_model(type(model), transformers.AutoConfig.for_model(**config))
    resize(small, replace(shape, layers=tuple(shapes.LayerShape(heads, ffn) for heads, ffn in sizes), embedding=None, shared=()))
    with torch.no_grad():
        for parameter in small.parameters():  # no denormal numbers, which slow a processor down
            parameter.normal_(std=0.02)
    share_parameters(small, shared)
    return small.eval()
