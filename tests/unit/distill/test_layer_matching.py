"""Which layers each loss compares."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import UsageError
from compress.data.presets import resolve
from compress.distill.layer_matching import (
    check_methods,
    drop_default_layer_losses,
    evenly_spaced_layers,
    for_candidates,
    match_layers,
    pair_layers,
)
from compress.models.shape import LayerShape, LstmShape, Shape, lstm_shape
from compress.settings import DistillSettings
from tests.unit.distill.helpers import uniform_shape

DEPTHS = st.integers(1, 48).flatmap(lambda teacher: st.tuples(st.integers(1, teacher), st.just(teacher)))
BERT, BILSTM = uniform_shape(3), lstm_shape(LstmShape(8, 6, 5))
WIDE = Shape(384, 32, (LayerShape(12, 1536),) * 6)
NARROW = Shape(192, 32, (LayerShape(6, 768),) * 4)
SHALLOW = Shape(384, 32, (LayerShape(12, 1536),) * 3)


def options(**settings: Any) -> DistillSettings:
    return DistillSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(3, 6, [1, 3, 5]), (4, 12, [2, 5, 8, 11]), (6, 12, [1, 3, 5, 7, 9, 11]), (1, 12, [11]), (12, 12, list(range(12))), (2, 3, [1, 2])],
)
def test_evenly_spaced_layers_include_the_last(student: int, teacher: int, expected: list[int]) -> None:
    assert evenly_spaced_layers(student, teacher) == expected


@given(DEPTHS)
def test_layers_of_any_depth_are_evenly_spaced(depths: tuple[int, int]) -> None:
    chosen = evenly_spaced_layers(*depths)
    assert len(chosen) == depths[0]
    assert chosen[-1] == depths[1] - 1
    assert all(0 <= a < b for a, b in itertools.pairwise(chosen))
    gaps = [b - a for a, b in zip([-1, *chosen], chosen, strict=False)]
    assert max(gaps) - min(gaps) <= 2 or depths[0] == 1


@pytest.mark.parametrize(
    ("student", "teacher", "match", "expected"),
    [
        (3, 6, "last", [(3, 6)]),
        (3, 6, "uniform", [(1, 2), (2, 4), (3, 6)]),
        (4, 12, "uniform", [(1, 3), (2, 6), (3, 9), (4, 12)]),
        (6, 6, "uniform", [(number, number) for number in range(1, 7)]),
        (1, 12, "uniform", [(1, 12)]),
        (6, 3, "uniform", [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)]),
    ],
)
def test_pairs_by_hand(student: int, teacher: int, match: str, expected: list[tuple[int, int]]) -> None:
    assert pair_layers(student, teacher, match) == expected


@given(st.integers(1, 48), st.integers(1, 48))
def test_uniform_pairs_never_decrease_and_end_with_the_last_layers(student: int, teacher: int) -> None:
    pairs = pair_layers(student, teacher, "uniform")
    assert [first for first, _ in pairs] == list(range(1, student + 1))
    assert pairs[-1] == (student, teacher) == pair_layers(student, teacher, "last")[0]
    seconds = [second for _, second in pairs]
    assert seconds == sorted(seconds)
    assert all(1 <= second <= teacher for second in seconds)


@given(DEPTHS)
def test_pairs_agree_with_the_layers_that_students_take(depths: tuple[int, int]) -> None:
    """The state after a student's layer is compared with the state after the teacher's layer that it was taken from."""
    assert [second - 1 for _, second in pair_layers(*depths, "uniform")] == evenly_spaced_layers(*depths)


def test_the_weights_of_cofi() -> None:
    settings = DistillSettings.model_validate({"method": "cofi"})
    assert (settings.losses, settings.hard_weight) == ({"logits": 0.1, "cofi": 0.9}, 0.0)
    (match,) = match_layers(settings, uniform_shape(12), Shape(32, 8, (LayerShape(0, 0), LayerShape(4, 0), LayerShape(0, 3))))
    assert (match.teacher_layers, match.student_layers, match.weight) == ((3, 6, 9, 12), (2, 3), 0.9)


def test_pairs_are_matched_as_written() -> None:
    settings = DistillSettings.model_validate({"method": ["logits", "hidden:0.6", "gram"], "match": "hidden:0-0,6-2,12-4;gram:12-4"})
    pairs = [
        (match.method, match.teacher, match.student, round(match.weight, 9))
        for match in match_layers(settings, uniform_shape(12), uniform_shape(4))
    ]
    assert pairs == [("hidden", 0, 0, 0.2), ("hidden", 6, 2, 0.2), ("hidden", 12, 4, 0.2), ("gram", 12, 4, 1.0)]


@pytest.mark.parametrize(
    ("settings", "student", "message"),
    [
        ({"method": "hidden", "match": "hidden:13-2"}, uniform_shape(4), "hidden:13-2: the teacher has no layer 13 \\(it has 0 to 12\\)"),
        ({"method": "gram", "match": "gram:12-5"}, uniform_shape(4), "the student has no layer 5"),
        ({"method": "attention", "match": "attention:0-0"}, uniform_shape(4), "has no layer 0 \\(it has 1 to 12\\)"),
        ({"method": "attention"}, uniform_shape(4, heads=2), "have 4 and 2 heads"),
        ({"method": "relations"}, uniform_shape(4, heads=0), "the student's has no heads"),
        ({"method": "relations", "relation_heads": 5}, uniform_shape(4), "5 relation heads do not divide"),
    ],
)
def test_layers_that_cannot_be_matched_are_a_usage_error(settings: dict[str, Any], student: Shape, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        match_layers(DistillSettings.model_validate(settings), uniform_shape(12), student)


@pytest.mark.parametrize(("widths", "heads"), [((32, 32), 4), ((32, 24), 4), ((32, 20), 4), ((32, 27), 1), ((32, 6), 2)])
def test_relation_heads_divide_both_widths(widths: tuple[int, int], heads: int) -> None:
    student = Shape(widths[1], widths[1], (LayerShape(1, 64),))
    (match,) = match_layers(DistillSettings.model_validate({"method": "relations"}), uniform_shape(2), student)
    assert match.relation_heads == heads


@pytest.mark.parametrize("pair", [(BERT, BILSTM), (BILSTM, BERT), (BILSTM, BILSTM)])
def test_default_losses_of_layers_are_dropped_for_bilstms(pair: tuple[Shape, Shape]) -> None:
    assert drop_default_layer_losses(options(), *pair).losses == {"logits": 1.0}
    assert drop_default_layer_losses(options(method=["logits", "nmse:20"]), *pair).losses == {"logits": 1.0}  # as in a resolved recipe
    assert drop_default_layer_losses(options(match="all", temperature=3.0), *pair).temperature == 3.0
    explicit = options(method=["logits:0.3", "dkd"])
    assert drop_default_layer_losses(explicit, *pair) is explicit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"method": ["logits", name]}, f"method {name} needs layers") for name in ("nmse", "pkd", "cka", "cofi")),
        ({"method": ["logits", "hidden:2"]}, "method hidden needs layers"),
        ({"method": "theseus"}, "method theseus needs layers"),
        ({"method": "tinybert"}, "method hidden needs layers"),
        ({"layer_epochs": 2}, "layer_epochs needs layers"),
        ({"match": "nmse:0-0"}, "match nmse:0-0 needs layers"),
    ],
)
def test_explicit_losses_of_layers_with_a_bilstm_are_usage_errors(settings: dict[str, Any], message: str) -> None:
    for pair in ((BERT, BILSTM), (BILSTM, BERT)):
        with pytest.raises(UsageError, match=message):
            drop_default_layer_losses(options(**settings), *pair)
    assert drop_default_layer_losses(options(**settings), BERT, BERT).losses == options(**settings).losses


@pytest.mark.parametrize(
    ("settings", "student", "losses"),
    [
        ({}, SHALLOW, {"logits", "nmse"}),
        ({}, NARROW, {"logits"}),
        ({"method": ["logits", "nmse:20"]}, NARROW, {"logits"}),  # as in a resolved recipe
        ({"method": ["logits", "nmse:1"]}, NARROW, {"logits", "nmse"}),
        ({"match": "last"}, NARROW, {"logits", "nmse"}),
        ({"method": ["logits", "hidden"]}, NARROW, {"logits", "hidden"}),
        ({"layer_epochs": 2}, NARROW, {"logits", "nmse"}),
    ],
)
def test_states_of_another_width_are_compared_only_if_settings_say_so(settings: dict[str, Any], student: Shape, losses: set[str]) -> None:
    assert set(drop_default_layer_losses(DistillSettings(**settings), WIDE, student).losses) == losses


RERANKS = resolve({"kind": "text-ranking", "beir": "a/b", "run": "a.run"})
EMBEDS = resolve({"kind": "sentence-embedding", "text": ["text"], "train": "a.jsonl"})
PAIRS = resolve({"kind": "text-ranking", "text": ["query", "text"], "train": "a.jsonl"})


def test_a_reranker_learns_margins_unless_other_losses_are_given() -> None:
    assert for_candidates(options(), RERANKS).losses == {"margin_mse": 1.0, "nmse": 20.0}
    assert drop_default_layer_losses(for_candidates(options(), RERANKS), WIDE, NARROW).losses == {"margin_mse": 1.0}
    for settings, spec in ((options(method="logits"), RERANKS), (options(augment=2), RERANKS), (options(), PAIRS), (options(), EMBEDS)):
        assert for_candidates(settings, spec) is settings
    for settings in ({"method": "margin_mse", "augment": 1}, {"method": ["listwise"], "unlabeled": "a.txt"}):
        with pytest.raises(ValueError, match="it goes with neither augment nor unlabeled"):
            options(**settings)


@pytest.mark.parametrize(
    ("method", "spec", "message"),
    [
        ("margin_mse", PAIRS, "compares the candidates of a query"),
        ("listwise", EMBEDS, "compares the candidates of a query"),
        ("similarity", RERANKS, "compares the vectors of texts"),
        ("theseus", EMBEDS, "an embedder learns from its teacher alone"),
        ("theseus", RERANKS, "a reranker on its candidates learns from its teacher alone"),
        ("dkd", EMBEDS, "has no such class"),
    ],
)
def test_methods_of_other_tasks_are_refused(method: str, spec: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_methods(options(method=method), spec, 1)
