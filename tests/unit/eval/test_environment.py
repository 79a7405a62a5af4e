"""Peers' environments, without installing anything: requirements, variables, messages, and the reasons in candidates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import candidates, environment
from peers import PEERS, Peer

from compress.core import disk, files
from compress.core.errors import ResourceError

ISOLATED = [peer for peer in PEERS.values() if peer.isolated]


@pytest.mark.parametrize("peer", ISOLATED, ids=lambda peer: peer.name)
def test_everything_is_pinned_and_torch_by_the_constraints(peer: Peer) -> None:
    lines = [line for line in peer.requirements.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert "torch" in lines
    assert all("==" in line for line in lines if line != "torch")
    assert "torch==2.13.0" in environment.CONSTRAINTS.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_a_peer_has_its_module(peer: Peer) -> None:
    text = peer.source.read_text(encoding="utf-8")
    assert "def open_model(" in text
    assert ("def build(" in text) == peer.builds
    assert "compress" not in text.replace("compress_to_fp16", "")  # it runs where this project is not


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record commands instead of running them; the interpreter appears."""
    calls: list[list[str]] = []

    def call(command: list[str], peer: Peer) -> None:
        calls.append(command)
        if command[1:3] == ["-m", "venv"]:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()

    monkeypatch.setattr(environment, "_call", call)
    monkeypatch.setattr(disk, "check_space", lambda *given: None)
    return calls


def test_an_environment_is_made_once_and_again_when_requirements_change(
    pip: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "peers_folder", lambda: tmp_path)
    peer = PEERS["openvino"]
    python = environment.interpreter(peer)
    assert python == tmp_path / "openvino" / "bin" / "python"
    assert [call[2] for call in pip] == ["venv", "pip"]
    environment.interpreter(peer)
    assert len(pip) == 2
    files.write_json(tmp_path / "openvino" / environment.STAMP, {"requirements": "others"})
    environment.interpreter(peer)
    assert len(pip) == 4


def test_pytorch_runs_in_this_environment() -> None:
    assert environment.interpreter(PEERS["pytorch"]) == Path(sys.executable)


def test_a_failed_installation_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: No matching distribution found for openvino==9 at https://example.org/simple\nnotice: a new release of pip"
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: subprocess.CompletedProcess(given, 1, "", said))
    with pytest.raises(ResourceError, match=r"openvino could not be installed: ERROR: No matching .* at \(address\)$"):
        environment._call(["pip"], PEERS["openvino"])


def test_a_peer_that_cannot_be_installed_is_a_candidate_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(peer: Peer) -> Path:
        raise ResourceError("no disk")

    monkeypatch.setattr(environment, "interpreter", refuse)
    found = candidates._peer(PEERS["openvino"], "bf16", tmp_path, tmp_path, tmp_path / "out")
    assert (found.name, found.folder, found.reason) == ("OpenVINO bf16", None, "no disk")


def test_workers_get_few_variables_and_peers_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "ours")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    isolated, own = (environment.variables(value, 2) for value in (True, False))
    assert "PYTHONPATH" not in isolated
    assert own["PYTHONPATH"] == "ours"
    for variables in (isolated, own):
        assert variables["OMP_NUM_THREADS"] == "2"
        assert "SECRET_TOKEN" not in variables


def test_a_key_covers_what_an_artifact_is_made_from(own_checkpoint: Any, tmp_path: Path) -> None:
    calibration = tmp_path / "calibration.json"
    calibration.write_text("[]", encoding="utf-8")
    teacher, peer = own_checkpoint(), PEERS["openvino"]
    keys = {candidates.build_key(peer, variant, teacher, calibration) for variant in peer.variants}
    calibration.write_text("[1]", encoding="utf-8")
    keys.add(candidates.build_key(peer, "bf16", teacher, calibration))
    (teacher / "vocab.txt").write_text("other", encoding="utf-8")
    keys.add(candidates.build_key(peer, "bf16", teacher, calibration))
    assert len(keys) == len(peer.variants) + 2
