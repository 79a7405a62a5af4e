"""The SPEC of a student."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compress.core.errors import UsageError
from compress.distill.student_spec import DEFAULT_LSTM, DEFAULT_STATIC, StudentSpec, parse_spec, shape_of_student, shared_as_teacher
from compress.models.shape import LstmShape, StaticShape, static_shape
from compress.stage import STUDENTS
from tests.unit.distill.helpers import uniform_shape


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("layers=3", StudentSpec(3)),
        (" layers = 12 ", StudentSpec(12)),
        ("hidden=64", StudentSpec(hidden=64)),
        ("layers=4,hidden=312,heads=12,ffn=1200,vocab=10000", StudentSpec(4, 312, 12, 1200, 10000)),
        *(
            (spec, StudentSpec(**{key: int(value) for key, value in (part.split("=") for part in spec.split(","))}))
            for spec in STUDENTS.values()
        ),
    ],
)
def test_specs(spec: str, expected: StudentSpec) -> None:
    assert parse_spec(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("layers=0", "positive number of layers"),
        ("layers=-1", "positive number of layers"),
        ("layers=", "positive number of layers"),
        ("layers=x", "positive number of layers"),
        ("layers=2.5", "positive number of layers"),
        ("layers=²", "positive number of layers"),
        ("layers=" + "9" * 5000, "positive number of layers"),  # more digits than int() takes
        ("layer=3", "did you mean 'layers'"),
        ("layers=4,layers=5", "the key 'layers' twice"),
        ("layers=4,hidden=313,heads=12", "12 heads do not divide"),
        ("layers=4,width=312", "the key 'width'"),
        ("layers=4,", "the key ''"),
        ("=3", "the key ''"),
    ],
)
def test_malformed_specs_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match="the student") as caught:
        parse_spec(spec)
    assert message in caught.value.message
    assert caught.value.exit_code == 2
    assert "layers=" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("lstm=150", LstmShape(300, 150, 200)),
        ("lstm=64,embedding=32", LstmShape(32, 64, 200)),
        ("lstm=64,ffn=7,vocab=900", LstmShape(300, 64, 7)),
        (STUDENTS["bilstm"], DEFAULT_LSTM),
        ("layers=3", None),
    ],
)
def test_specs_of_bilstms(spec: str, expected: LstmShape | None) -> None:
    assert parse_spec(spec).without_layers() == expected
    assert StudentSpec().without_layers() is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lstm=150,layers=2", "both lstm and layers"),
        ("hidden=64,lstm=150", "both lstm and hidden"),
        ("lstm=150,heads=2", "both lstm and heads"),
        ("embedding=300", "'embedding', which goes with lstm"),
        ("layers=2,embedding=300", "'embedding', which goes with lstm"),
        ("lstm=0", "positive number of lstm"),
        ("lstm=9000", "up to 8,192"),
        ("lsm=150", "did you mean 'lstm'"),
    ],
)
def test_malformed_specs_of_bilstms_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(spec)
    assert message in caught.value.message
    assert "lstm=150,embedding=300" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("spec", "texts", "expected"),
    [
        ("static=256", 1, DEFAULT_STATIC),
        (STUDENTS["static"], 1, DEFAULT_STATIC),
        ("static=32,bigram=8,buckets=1000,ffn=5,vocab=900", 1, StaticShape(32, 8, 1000, 5)),
        ("static=32", 2, StaticShape(32, DEFAULT_STATIC.bigram, DEFAULT_STATIC.buckets, DEFAULT_STATIC.ffn, 2)),
    ],
)
def test_specs_of_static_students(spec: str, texts: int, expected: StaticShape) -> None:
    assert parse_spec(spec).without_layers(texts) == expected
    assert shape_of_student(spec, uniform_shape(3), texts=texts) == static_shape(expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("static=256,layers=2", "both static and layers"),
        ("static=256,lstm=150", "both lstm and static"),
        ("static=256,embedding=300", "'embedding', which goes with lstm"),
        ("buckets=300", "'buckets', which goes with static"),
        ("layers=2,bigram=300", "'bigram', which goes with static"),
        ("static=0", "positive number of static"),
        ("static=256,buckets=99999999", "up to 16,777,216"),
        ("statik=150", "did you mean 'static'"),
    ],
)
def test_malformed_specs_of_static_students_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(spec)
    assert message in caught.value.message
    assert "static=256,bigram=64" in (caught.value.hint or "")


def test_students_of_shared_layers_share_at_the_same_height() -> None:
    teacher = replace(uniform_shape(6), shared=(0, 0, 0, 3, 3, 3))
    assert shared_as_teacher(uniform_shape(4), teacher).shared == (0, 0, 2, 2)
    assert shared_as_teacher(uniform_shape(2), teacher).shared == ()
    assert shared_as_teacher(uniform_shape(12), replace(teacher, shared=(0,) * 6)).shared == (0,) * 12
