"""What every test shares: no network, no user cache, few threads, a clean console; and tiny checkpoints, made once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")  # threads that load a tiny checkpoint cost more than the loading
sys.path.insert(0, str(Path(__file__).parent.parent))  # for `from tests import tiny`, whatever the current folder

import hypothesis
import pytest

from compress.core import console, hub
from tests import tiny

hypothesis.settings.register_profile("unit", deadline=None, derandomize=True, max_examples=20, database=None)
hypothesis.settings.load_profile("unit")

# The libraries and the collected tests are a million objects that live to the end: without them a collection takes a hundredth of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """Keep what was made so far out of every later garbage collection, and collect less often."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


Maker = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def compress_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what is cached out of the user's folders."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESS_CACHE", str(folder))
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        yield folder


@pytest.fixture(autouse=True)
def _fresh_process_state() -> Iterator[None]:
    """Undo what a command line sets for its whole process."""
    offline = os.environ.get("HF_HUB_OFFLINE")
    yield
    console._state = console._State()
    hub.set_offline(False)
    if offline is not None:
        os.environ["HF_HUB_OFFLINE"] = offline


FAMILIES = [name for name in tiny.FAMILIES if name not in ("xlm-roberta", "mpnet")]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The families in turn; those that are RoBERTa but for a name or a bias, where that matters."""
    return request.param


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Return a function from a family to the folder of its tiny classifier (shared: read it only)."""
    made: dict[str, Path] = {}

    def of(family: str = "bert") -> Path:
        if family not in made:
            made[family] = tiny.write_checkpoint(tmp_path_factory.mktemp("checkpoints") / family, family)
        return made[family]

    return of


@pytest.fixture
def own_checkpoint(tmp_path: Path) -> Maker:
    """Return a function that writes a tiny classifier into this test's own folder, to damage it."""

    def write(family: str = "bert", **options: Any) -> Path:
        return tiny.write_checkpoint(tmp_path / f"model-{family}", family, **options)

    return write


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the document of a tiny task with three splits in files (shared: read it only)."""
    return tiny.write_task(tmp_path_factory.mktemp("task"))
