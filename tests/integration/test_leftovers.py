"""After a failure nothing is left in the temporary folder nor in the cache: every place of the package that makes something there fails."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import compress
from compress.core import scratch
from compress.data.input_spec import InputSpec
from tests import tiny
from tests.unit.data.retrieval_files import write_beir

PACKAGE = Path(compress.__file__).parent
MAKES = re.compile(r"(?:scratch_folder|scratch\.\w+|measured_once|cached_folder|writable_root)\(|\btempfile\.")
ELSEWHERE = {  # where these are defined; and processes, whose folder is removed with them (tests/unit/core/test_scratch.py)
    *("core/scratch.py", "core/caches.py", "core/system_errors.py", "core/disk_cache.py"),
    *("cli/main.py", "cli/signals.py", "search/ray_worker.py"),
}
ERRORS: dict[str, Callable[[], BaseException]] = {  # made anew: an error keeps what its traceback saw
    "disk full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "bug": lambda: RuntimeError("x"),
    "Ctrl-C": KeyboardInterrupt,
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Calls a place of the package in a folder with a checkpoint, in which a function is replaced by one that fails."""

    call: Callable[[Path], object]
    failing: str  # module:attribute
    others: dict[str, Any] | None = None  # further replacements


def task_of(folder: Path) -> dict[str, Any]:
    return tiny.write_task(folder / "data", 12, 6, 6)


def distilled(folder: Path) -> object:
    return compress.distill(str(folder / "model"), "layers=2", task_of(folder), folder / "out", epochs=1, precision="fp32")


def taken_part(folder: Path) -> object:
    from compress.recipe import call

    stage = SimpleNamespace(seed=0, settings=None, verb=SimpleNamespace(load=lambda: call.nullcontext))
    order: Any = {"stage": "x", "sources": {}, "folders": {}, "spec": None, "more_teachers": []}
    recipe: Any = SimpleNamespace(stages={"x": stage})
    return call.take_part(recipe, order)


def table_read(folder: Path) -> object:
    from compress.data.tables import read_batches

    return list(read_batches(Path(tiny.write_task(folder / "data", 12, 6, 6, kind="parquet")["train"]), ["text"]))


def tokens_kept(folder: Path) -> object:
    from compress.data.token_store import TokenWriter

    writer = TokenWriter(np.int32, 100)
    writer.write([[1, 2, 3]])
    return writer.finish()


def teacher_run(folder: Path) -> object:
    from compress.distill.teacher_outputs import compute_teacher_outputs

    return compute_teacher_outputs(tiny.make_model(), "abc", tiny.encoded(), [("hidden", 3)], CPU)


def vectors_computed(folder: Path) -> object:
    from compress.distill.token_vectors import token_vectors

    return token_vectors(tiny.make_model(), folder / "model")


def words_replaced(folder: Path) -> object:
    from compress.distill.word_substitution import substitute_words

    return substitute_words([("a red dog",)], InputSpec(), 1, 0, str(tiny.write_masked_lm(folder / "masked")), CPU)


def candidates_found(folder: Path) -> object:
    from compress.data.retrieval import Retrieval
    from compress.inference.retriever import FoundCandidates

    data = Retrieval(str(write_beir(folder / "beir")))
    return FoundCandidates(str(tiny.write_embedder(folder / "embedder"))).file(data.sources, data.queries, data.corpus)


def graph_tuned(folder: Path) -> object:
    from compress.export.tune import tune_graph

    graphs: Any = SimpleNamespace(axes={}, build_openvino=None)
    settings: Any = SimpleNamespace(tune=True, runtime="onnxruntime")
    return tune_graph(graphs, settings, "fp32", lambda *_: None, 100, 32)  # pyright: ignore[reportArgumentType]


def links_copied(folder: Path) -> object:
    from compress.inference.openvino_session import _without_links

    (folder / "real.onnx").write_bytes(b"x")
    for name in ("model.onnx", "openvino.onnx"):
        (folder / name).symlink_to(folder / "real.onnx")
    with _without_links(folder / "openvino.onnx") as graph:
        return graph


def sublayers_timed(folder: Path) -> object:
    from compress.prune.latency_table import latency_table
    from compress.prune.serving_clock import Serving

    return latency_table(tiny.make_model(), Serving(seq_len=8))


def models_timed(folder: Path) -> object:
    from compress.prune.serving_clock import Serving, ServingClock

    return ServingClock(tiny.make_model(), Serving(seq_len=8)).speedup(tiny.make_model(seed=1))


def shapes_timed(folder: Path) -> object:
    from compress.search.shape_clock import time_shapes

    point = SimpleNamespace(batch_size=1, seq_len=8, threads=1)
    space: Any = SimpleNamespace(runtime="onnxruntime", precision="fp32", serving=point)
    return time_shapes(folder / "model", tiny.LABELS, "class", space, ["layers=1"])


def lstms_quantized(folder: Path) -> object:
    import onnx

    from compress.quantize.dynamic import _quantize_lstms

    return _quantize_lstms(onnx.ModelProto(), ["lstm"], seven_bits=False)


def precision_measured(folder: Path) -> object:
    from compress.training.precision import choose_precision

    settings: Any = SimpleNamespace(precision="auto", batch_size=4)
    return choose_precision(tiny.make_model(), tiny.encoded(), settings, CPU)


PLACES: dict[str, Place] = {
    "api.py": Place(lambda f: compress.evaluate([f / "model"], task_of(f), errors=f / "errors.jsonl"), "compress.api:run_single"),
    "recipe/single.py": Place(lambda f: compress.evaluate([f / "model"], task_of(f)), "compress.recipe.single:call_stage"),
    "recipe/call.py": Place(
        taken_part, "compress.recipe.call:nullcontext", {"compress.recipe.call:Workspace": lambda _: SimpleNamespace(task=None)}
    ),
    "data/tables.py": Place(table_read, "datasets:load_dataset"),
    "data/token_store.py": Place(tokens_kept, "numpy:memmap"),
    "distill/__init__.py": Place(distilled, "compress.distill:create_student"),
    "distill/teacher_outputs.py": Place(teacher_run, "compress.distill.teacher_outputs:_compute"),
    "distill/token_vectors.py": Place(vectors_computed, "compress.distill.token_vectors:_compute"),
    "distill/word_substitution.py": Place(words_replaced, "compress.distill.word_substitution:_variants"),
    "export/tune.py": Place(graph_tuned, "compress.export.tune:_Tuner"),
    "inference/openvino_session.py": Place(links_copied, "shutil:copyfile"),
    "inference/retriever.py": Place(candidates_found, "compress.inference.retriever:rank_corpus"),
    "prune/latency_table.py": Place(sublayers_timed, "compress.prune.latency_table:time_models"),
    "prune/serving_clock.py": Place(models_timed, "compress.benchmark.timing_worker:TimingWorker.speedup"),
    "prune/smaller_file.py": Place(
        lambda f: compress.prune(f / "model", task_of(f), f / "out", method="vocab"), "compress.prune.smaller_file:save_model"
    ),
    "quantize/__init__.py": Place(
        lambda f: compress.quantize(f / "model", None, f / "out", method="dynamic"), "compress.quantize:_choose_method"
    ),
    "quantize/dynamic.py": Place(lstms_quantized, "onnxruntime.quantization:quantize_dynamic"),
    "search/shape_clock.py": Place(shapes_timed, "compress.search.shape_clock:_untrained"),
    "training/precision.py": Place(
        precision_measured, "compress.training.precision:_measure", {"compress.training.precision:emulates_bf16": lambda: False}
    ),
}


def test_every_place_is_known() -> None:
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if MAKES.search(path.read_text(encoding="utf-8"))}
    assert found - ELSEWHERE == set(PLACES)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_a_failure_leaves_nothing(place: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_checkpoint(tmp_path / "model")
    cache = tmp_path / "cache"
    monkeypatch.setenv("COMPRESS_CACHE", str(cache))
    gc.collect()
    before, reached = set(scratch.root().iterdir()), []

    def failing(*_: object, **__: object) -> None:
        reached.append(sorted(path.name for path in scratch.root().iterdir() if path not in before))
        raise ERRORS[error]()

    _replace(monkeypatch, PLACES[place].failing, failing)
    for name, other in (PLACES[place].others or {}).items():
        _replace(monkeypatch, name, other)
    with pytest.raises(BaseException):  # noqa: B017, PT011 (as it is, or as one of ours)
        PLACES[place].call(tmp_path)
    monkeypatch.undo()
    gc.collect()
    assert len(reached) == 1
    assert set(scratch.root().iterdir()) == before
    assert not [path for path in cache.rglob("*") if not path.is_dir() or path.name.startswith((".", "tmp"))]
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".out", "out", "errors"))]


def _replace(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    module, _, attribute = name.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = attribute.split(".")
    for part in outer:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, last, value)
