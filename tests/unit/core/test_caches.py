"""The cache's folder, and measurements that are made once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compress.core import caches, files, machine


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", "/explicit")
    assert caches.cache_root() == Path("/explicit")
    monkeypatch.delenv("COMPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert caches.cache_root() == Path("/xdg/compress")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches.cache_root() == tmp_path / ".cache" / "compress"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Measurement:
    """Counts how often it is made."""

    count = 0

    def __call__(self) -> dict[str, int]:
        self.count += 1
        return {"number": self.count}


def test_the_same_facts_are_measured_once(cache: Path) -> None:
    measure = Measurement()
    assert caches.measured_once("speed", ["a", 1], measure) == ({"number": 1}, False)
    assert caches.measured_once("speed", ["a", 1], measure) == ({"number": 1}, True)
    (path,) = (cache / "speed").iterdir()
    assert files.read_json(path)["facts"][:2] == ["a", 1]


def test_other_facts_kinds_and_machines_are_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Measurement()
    caches.measured_once("speed", ["a"], measure)
    assert caches.measured_once("speed", ["b"], measure) == ({"number": 2}, False)
    assert caches.measured_once("size", ["a"], measure) == ({"number": 3}, False)
    monkeypatch.setattr(machine, "cpu_name", lambda: "another processor")
    assert caches.measured_once("speed", ["a"], measure) == ({"number": 4}, False)
    monkeypatch.setattr(machine, "version_of", lambda library: "0.1")
    assert caches.measured_once("speed", ["a"], measure) == ({"number": 5}, False)


DAMAGED = ["", "nonsense", "{}", "[]", '{"measured": 3}', '{"measured": {}}', '{"measured": {"x": 1}}', "[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_measured_again(cache: Path, content: str) -> None:
    measure = Measurement()
    caches.measured_once("speed", [], measure)
    (path,) = (cache / "speed").iterdir()
    path.write_text(content, encoding="utf-8")
    assert caches.measured_once("speed", [], measure) == ({"number": 2}, False)
    assert caches.measured_once("speed", [], measure) == ({"number": 2}, True)


def test_a_measurement_that_was_edited_is_measured_again(cache: Path) -> None:
    caches.measured_once("speed", [], lambda: {"of": {2: 0.1, 10: None}, "sizes": (1, 2)})
    assert caches.measured_once("speed", [], dict) == ({"of": {"2": 0.1, "10": None}, "sizes": [1, 2]}, True)
    (path,) = (cache / "speed").iterdir()
    document = files.read_json(path)
    del document["measured"]["sizes"]
    files.write_json(path, document)
    assert caches.measured_once("speed", [], lambda: {"new": 1}) == ({"new": 1}, False)


def test_an_error_of_the_measurement_is_not_hidden(cache: Path) -> None:
    with pytest.raises(KeyError):
        caches.measured_once("speed", [], lambda: {}["missing"])
    assert not (cache / "speed").exists()


def test_two_that_measure_the_same_at_a_time_get_one_result(cache: Path) -> None:
    begun, measure = threading.Event(), Measurement()

    def slowly() -> dict[str, int]:
        begun.set()
        time.sleep(0.2)
        return measure()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(caches.measured_once, "speed", [], slowly)
        assert begun.wait(60)
        second = pool.submit(caches.measured_once, "speed", [], measure)
    assert (first.result(), second.result()) == (({"number": 1}, False), ({"number": 1}, True))
    assert [path.name for path in cache.iterdir()] == ["speed"]


def test_what_a_killed_process_left_is_removed(cache: Path) -> None:
    measure = Measurement()
    caches.measured_once("speed", [], measure)
    (path,) = (cache / "speed").iterdir()
    lock = cache / f".speed-{path.name}.lock"
    lock.touch()
    assert caches.measured_once("speed", [], measure) == ({"number": 1}, True)
    assert not lock.exists()
    path.rename(path.with_name(f".{path.name}.tmp-1"))
    assert caches.measured_once("speed", [], measure) == ({"number": 2}, False)
    assert list((cache / "speed").iterdir()) == [path]


def test_a_cache_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    assert caches.measured_once("speed", [], Measurement()) == ({"number": 1}, False)
    assert "nothing is cached" in capsys.readouterr().err
