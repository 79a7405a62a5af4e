"""Labelling texts with a checkpoint or an artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core import artifacts, files
from compress.core.errors import ModelError, UsageError
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.inference.forward import open_forward
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import load_model
from tests import tiny

Maker = Callable[..., Path]
TEXTS: list[Any] = ["the red dog", "tea", ("a big horse", "of old bread"), "green " * 100, ""]


@pytest.fixture
def artifact(checkpoint: Maker, family: str, tmp_path: Path) -> Path:
    """An artifact of the family's tiny classifier."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_artifact(build_graph(tiny.make_model(family)), checkpoint(family), folder)
    files.write_json(folder / artifacts.MANIFEST, {"runtime": RUNTIME_HINTS})
    return folder


def test_checkpoint_and_artifact_agree(checkpoint: Maker, family: str, artifact: Path) -> None:
    first, second = open_predictor(checkpoint(family))(TEXTS), open_predictor(artifact)(TEXTS)
    assert [prediction.label for prediction in first] == [prediction.label for prediction in second]
    np.testing.assert_allclose([prediction.score for prediction in first], [prediction.score for prediction in second], atol=1e-4)
    assert all(prediction.label in tiny.LABELS and 1 / 3 <= prediction.score <= 1 for prediction in first)


def test_one_text_alone_or_among_others_is_the_same(checkpoint: Maker) -> None:
    predict = open_predictor(checkpoint())
    alone = [predict([text])[0] for text in TEXTS]
    for one, other in zip(alone, predict(TEXTS), strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_nothing_gives_nothing(checkpoint: Maker, artifact: Path, family: str) -> None:
    assert open_predictor(artifact)([]) == []
    assert open_predictor(checkpoint(family))([]) == []


def test_inputs_are_truncated_to_the_training_length(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    files.write_json(folder / artifacts.MANIFEST, {"task": {"max_length": 8}})
    predict = open_predictor(folder)
    short, long = predict(["green " * 6, "green " * 60])
    assert short.score == pytest.approx(long.score, abs=1e-5)


def test_the_pooling_of_a_graph_cannot_change(checkpoint: Maker, tmp_path: Path) -> None:
    for name, source in (("classifier", checkpoint()), ("embedder", tiny.write_embedder(tmp_path / "model"))):
        (tmp_path / name).mkdir()
        write_artifact(build_graph(load_model(source)), source, tmp_path / name)
    for opened in (open_predictor, open_forward):
        with pytest.raises(ModelError, match="is the graph of a model without pooling"):
            opened(tmp_path / "classifier", pooling="mean")
        with pytest.raises(UsageError, match="says that its pooling is mean"):
            opened(tmp_path / "embedder", pooling="cls")
    assert len(open_predictor(tmp_path / "embedder", pooling="mean")(TEXTS[:2])) == 2


def test_a_query_and_its_document_get_their_prompts(tmp_path: Path) -> None:
    """The score of a pair is the cosine of the vectors of the texts with their prompts written out."""
    plain, prompted = (tiny.write_embedder(tmp_path / name) for name in ("plain", "prompted"))
    prompts = {"query": "we ", "passage": "you "}
    (prompted / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}), encoding="utf-8")
    (tmp_path / "graph").mkdir()
    write_artifact(build_graph(load_model(prompted)), prompted, tmp_path / "graph")
    (written_out,) = open_predictor(plain)([("we red dog", "you drink tea")])
    (bare,) = open_predictor(plain)([("red dog", "drink tea")])
    assert abs(written_out.value - bare.value) > 1e-3
    for folder in (prompted, tmp_path / "graph"):
        (found,) = open_predictor(folder, query_first=True)([("red dog", "drink tea")])
        assert found.value == pytest.approx(written_out.value, abs=1e-5)
        (found,) = open_predictor(folder)([("red dog", "drink tea")])
        assert found.value == pytest.approx(bare.value, abs=1e-5)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        open_predictor(tmp_path)
