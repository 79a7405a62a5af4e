"""The comparison with other clients, without installing any: lines of cards, texts, verdicts, reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import clients
import numpy as np
import pytest
from harness import environment

import compress
from compress.core.errors import ModelError, ResourceError
from tests import tiny


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    compress.export(tiny.write_embedder(tmp_path / "model"), tmp_path / "graph")
    return tmp_path / "graph"


def vectors(texts: list[str], folder: Path) -> np.ndarray:
    return np.stack([prediction.vector for prediction in compress.load_onnx(folder)(texts)])  # pyright: ignore[reportAttributeAccessIssue]


def test_an_artifact_has_lines_for_every_client_but_browsers(artifact: Path, tmp_path: Path) -> None:
    assert list(clients.clients_of(artifact)) == ["sentence-transformers", "fastembed", "onnxruntime"]
    compress.export(artifact, tmp_path / "web", layout="transformers.js")
    assert "transformers.js" in clients.clients_of(tmp_path / "web")


def test_only_the_texts_of_the_lines_are_replaced(artifact: Path) -> None:
    block = clients.block_of((artifact / "README.md").read_text(encoding="utf-8"), "fastembed")
    assert block is not None
    changed = clients.with_texts(block, ['say "hi"'])
    assert 'texts = ["say \\"hi\\""]' in changed
    assert [line for line in changed.splitlines() if line not in block] == ['texts = ["say \\"hi\\""]']
    compile(changed, "card", "exec")


def test_vectors_are_compared_by_their_cosine(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the dog", "my soup"]
    expected = vectors(texts, artifact)
    monkeypatch.setattr(clients, "run_client", lambda *given: 3 * expected)
    assert clients.compare("fastembed", artifact, "graph", False, texts).agrees
    monkeypatch.setattr(clients, "run_client", lambda *given: expected[::-1])
    outcome = clients.compare("fastembed", artifact, "graph", False, texts)
    assert not outcome.agrees
    assert "DIFFERS" in clients.describe(outcome)


def test_a_client_that_fails_differs_and_one_that_is_missing_was_not_tried(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def run(*given: object) -> None:
            raise error

        return run

    monkeypatch.setattr(clients, "run_client", fail(ModelError("KeyError: 'last_hidden_state'")))
    assert clients.describe(clients.compare("fastembed", artifact, "graph", False, ["a"])) == (
        "fastembed, graph: DIFFERS (KeyError: 'last_hidden_state')"
    )
    monkeypatch.setattr(clients, "run_client", fail(ResourceError("no network")))
    outcome = clients.compare("fastembed", artifact, "graph", False, ["a"])
    assert clients.describe(outcome) == "fastembed, graph: not tried: no network"


def test_without_node_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients.shutil, "which", lambda name: None)
    with pytest.raises(ResourceError, match="node and npm are not installed"):
        clients.node_modules()


@pytest.mark.parametrize("name", clients.PYTHON_CLIENTS)
def test_everything_is_pinned(name: str) -> None:
    requirements = clients.PYTHON_CLIENTS[name].requirements.read_text(encoding="utf-8").splitlines()
    lines = [line for line in requirements if line and not line.startswith("#")]
    assert all("==" in line for line in lines if line != "torch")
    assert environment.expected_stamp(clients.PYTHON_CLIENTS[name])["requirements"]
