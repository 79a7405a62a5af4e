"""Facts about the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import compress
from compress.core import machine

CPUINFO = """processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor @ 2.00GHz
flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile amx_int8 made_up

processor\t: 1
model name\t: another
"""


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show a known processor."""
    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **kwargs: CPUINFO if str(self) == "/proc/cpuinfo" else original(self, **kwargs))
    machine._cpuinfo.cache_clear()


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    machine._cpuinfo.cache_clear()


def test_processor(cpuinfo: None) -> None:
    assert machine.cpu_name() == "Intel(R) Xeon(R) Processor @ 2.00GHz (family 6, model 143)"
    assert machine.cpu_flags() == ["avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8"]


@pytest.mark.parametrize(
    ("processor", "flags", "expected"),
    [
        ("x86_64", ["avx2"], True),
        ("AMD64", ["avx2", "avx512_vnni"], True),
        ("x86_64", ["avx2", "amx_bf16"], False),
        ("x86_64", [], False),  # nothing is known
        ("aarch64", ["asimddp"], False),
    ],
)
def test_where_bf16_is_emulated(monkeypatch: pytest.MonkeyPatch, processor: str, flags: list[str], expected: bool) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert machine.emulates_bf16() is expected


def test_a_system_without_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path, **kwargs: object) -> str:
        raise FileNotFoundError

    machine._cpuinfo.cache_clear()
    monkeypatch.setattr(Path, "read_text", missing)
    assert machine.cpu_flags() == []
    assert machine.cpu_name()
    assert machine.governor() is None


def test_facts_are_json_and_name_the_libraries() -> None:
    facts = machine.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["compress"] == compress.__version__
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert {"python", "torch", "onnxruntime", "transformers"} <= set(facts)


def test_a_missing_library_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", ("torch", "no-such-library"))
    assert machine.versions()["no-such-library"] is None
    assert "no-such-library" not in machine.facts()


def test_the_runtimes_are_among_the_versions() -> None:
    assert {"onnxruntime", "openvino"} <= set(machine.versions())


def test_identity_tells_machines_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.identity()
    assert before == machine.identity()
    monkeypatch.setattr(machine, "cores", lambda: 1000)
    assert machine.identity() != before
