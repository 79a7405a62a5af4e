"""What `load_onnx` costs beyond the runtime, and its throughput on lists: `python eval/serving.py ARTIFACT… [--runtime openvino]`.

Four tables, each measured in turns, with 95 % intervals:

    check       opening with and without the comparison of canaries
    overhead    batch 1: the session's run on ready arrays; from token ids to the prediction; from the text to the prediction
    throughput  a list of texts of one length, from token ids to logits, compared with the fastest batch size that the same session has
    parallel    a list with `--threads` threads for each inference, and with as many streams of one thread (more than one thread)

On a machine with other work, `--clock thread` counts the processor time of the calling thread, which computes everything with
`--threads 1`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.statistics import bootstrap_interval, median_ratio
from compress.core import machine
from compress.data.encoded import Encoded
from compress.data.encoding import encode_examples
from compress.data.sample_texts import SENTENCES
from compress.data.texts import examples_from_texts
from compress.inference.artifact import OnnxModel, load_onnx
from compress.inference.batches import Forward, run_batches
from compress.inference.canaries import read_canaries
from compress.inference.decoding import describe_outputs
from compress.inference.openvino_session import compiled_graph, request_forward
from compress.inference.routes import OPENVINO
from compress.models.config import max_tokens

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
LISTED = 128  # texts of a list
MAX_TOKENS = 8192  # of a batch
TABLES = ("check", "overhead", "throughput", "parallel")
CLOCKS: dict[str, Callable[[], int]] = {"wall": time.perf_counter_ns, "thread": time.thread_time_ns}
Work = Callable[[], object]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="eval/serving.py", description="Measure what load_onnx costs beyond the runtime.")
    parser.add_argument("artifacts", type=Path, nargs="+", help="ONNX artifacts that classify texts or encode them")
    parser.add_argument("--runtime", choices=("onnxruntime", "openvino"), default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1, help="of one inference")
    parser.add_argument("--streams", type=int, default=1, help="micro-batches of a list at the same time")
    parser.add_argument("--seq-len", type=int, nargs="+", default=[16, 32, 128])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each cell")
    parser.add_argument("--rounds", type=int, default=500, help="of each cell, at most")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("-o", "--output", type=Path, help="write everything as JSON")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    options = arguments(given)
    rows: list[dict[str, object]] = []
    print(f"{machine.cpu_name()}; {options.runtime} {machine.version_of(options.runtime)}, {options.clock} clock")
    for artifact in options.artifacts:
        model = load_onnx(artifact, threads=options.threads, runtime=options.runtime, streams=options.streams, check=False)
        name = {"artifact": artifact.name, "runtime": options.runtime, "threads": options.threads, "streams": options.streams}
        for table in options.tables:
            measured = {"check": check, "overhead": overhead, "throughput": throughput, "parallel": parallel}[table](model, options)
            for row in measured:
                rows.append({**name, "table": table, **row})
                print("  ".join(f"{key} {_shown(value)}" for key, value in rows[-1].items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps({"machine": machine.facts(), "clock": options.clock, "rows": rows}, indent=2) + "\n", "utf-8")
    return 0


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def check(model: OnnxModel, options: argparse.Namespace) -> list[dict[str, object]]:
    """Time reading and comparing the canaries of an artifact whose runtime is open, in ms."""
    limits = (model.config["vocab_size"], max_tokens(model.config), 0)
    if read_canaries(model.folder, *limits) is None:
        return []
    forward = model.open_runtime(options.runtime)

    def compare() -> None:
        canaries = read_canaries(model.folder, *limits)
        assert canaries is not None  # noqa: S101 (read before)
        canaries.difference(forward, options.runtime)

    milliseconds = 1e3 * in_turns({"check": compare}, options)["check"]
    return [{"n": len(milliseconds), "check_ms": float(np.median(milliseconds)), "ci95": _interval(milliseconds)}]


def overhead(model: OnnxModel, options: argparse.Namespace) -> list[dict[str, object]]:
    """Time a text of each length: the runtime alone, and what ids and text cost beyond it, in microseconds."""
    rows: list[dict[str, object]] = []
    for length in options.seq_len:
        text = text_of(model, length)
        examples = examples_from_texts([text], model.input_spec)
        data = encode_examples(model.tokenizer, examples, model.input_spec, 0)

        def from_ids(data: Encoded = data, examples: object = examples) -> object:
            outputs = run_batches(model.logits, data, max_tokens=model.batch_tokens)
            return describe_outputs(outputs, data, examples, model.input_spec, model.labels)  # pyright: ignore[reportArgumentType]

        works: dict[str, Work] = {"run": bare_run(model, data, options), "ids": from_ids, "text": lambda text=text: model(text)}
        times = {name: 1e6 * seconds for name, seconds in in_turns(works, options).items()}
        beyond = {name: times[name] - times["run"] for name in ("ids", "text")}
        rows.append(
            {
                "tokens": int(data.lengths[0]),
                "n": len(times["run"]),
                "run_us": float(np.median(times["run"])),
                **{f"{name}_beyond_us": float(np.median(values)) for name, values in beyond.items()},
                **{f"{name}_ci95": _interval(values) for name, values in beyond.items()},
            }
        )
    return rows


def text_of(model: OnnxModel, length: int) -> str:
    """Return a text of about `length` tokens."""
    words = (" ".join(SENTENCES[3:6]) + " ").split() * (1 + length // 40)
    for count in range(len(words), 0, -1):
        text = " ".join(words[:count])
        if len(model.tokenizer.encode(text).ids) <= length:
            return text
    return words[0]


def bare_run(model: OnnxModel, data: Encoded, options: argparse.Namespace) -> Work:
    """Return the runtime's own call on arrays that are ready: the least that any caller pays."""
    batch = data.batch([0])
    if options.runtime == OPENVINO:
        from openvino import Tensor  # pyright: ignore[reportMissingImports]

        compiled = compiled_graph(model.folder, threads=options.threads)
        model.__dict__["logits"] = request_forward(compiled)  # two compiled graphs would compete for the caches
        request = compiled.create_infer_request()
        arrays = [batch[next(iter(entry.get_names()))] for entry in request.model_inputs]
        for number, array in enumerate(arrays):
            request.set_input_tensor(number, Tensor(array))
        return request.infer
    session = model.session
    inputs = {entry.name: batch[entry.name] for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    return lambda: session.run(names, inputs)


def throughput(model: OnnxModel, options: argparse.Namespace) -> list[dict[str, object]]:
    """Compare a list of random texts of one length with batches of each size in the same session, in texts a second."""
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    forward: Forward = model.logits
    for length in options.seq_len:
        data = listed(model, length, rng)
        sizes = [size for size in BATCH_SIZES if size * length <= MAX_TOKENS]
        batches = {size: random_batch(rng, model.config["vocab_size"], size, length) for size in sizes}
        works: dict[str, Work] = {f"{size}": partial(forward, batch) for size, batch in batches.items()}
        works["list"] = lambda data=data: run_batches(forward, data, max_tokens=model.batch_tokens, streams=options.streams)
        per_text = {name: seconds / (int(name) if name != "list" else LISTED) for name, seconds in in_turns(works, options).items()}
        best = min(map(str, sizes), key=lambda name: float(np.median(per_text[name])))
        ratio, interval = median_ratio(per_text[best], per_text["list"])
        rows.append(
            {
                "tokens": length,
                "n": len(per_text["list"]),
                "best_batch": int(best),
                "best_per_s": 1 / float(np.median(per_text[best])),
                "list_per_s": 1 / float(np.median(per_text["list"])),
                "share": ratio,
                "ci95": list(interval),
            }
        )
    return rows


def listed(model: OnnxModel, length: int, rng: np.random.Generator) -> Encoded:
    """Return a list of random texts of one length."""
    ids = random_batch(rng, model.config["vocab_size"], LISTED, length)["input_ids"]
    return Encoded(list(ids), list(np.zeros_like(ids)), np.zeros(LISTED, dtype=np.float32), 0)


def parallel(model: OnnxModel, options: argparse.Namespace) -> list[dict[str, object]]:
    """Compare two ways to use several cores for a list: threads of one inference, and streams of one thread each, in texts a second."""
    threads = options.threads
    if threads == 1:
        return []
    ways = {
        "threads": load_onnx(model.folder, threads=threads, runtime=options.runtime, check=False),
        "streams": load_onnx(model.folder, threads=1, runtime=options.runtime, streams=threads, check=False),
    }
    rows: list[dict[str, object]] = []
    for length in options.seq_len:
        data = listed(model, length, np.random.default_rng(0))
        works: dict[str, Work] = {
            name: partial(run_batches, way.logits, data, max_tokens=way.batch_tokens, streams=threads if name == "streams" else 1)
            for name, way in ways.items()
        }
        seconds = in_turns(works, options)
        ratio, interval = median_ratio(seconds["threads"], seconds["streams"])
        per_s = {f"{name}_per_s": LISTED / float(np.median(values)) for name, values in seconds.items()}
        rows.append({"tokens": length, "n": len(seconds["streams"]), **per_s, "streams_speedup": ratio, "ci95": list(interval)})
    return rows


def in_turns(works: Mapping[str, Work], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Time works in turns, in shuffled order; returns the seconds of each by name, (rounds,)."""
    clock, rng, names = CLOCKS[options.clock], np.random.default_rng(0), list(works)
    samples: dict[str, list[int]] = {name: [] for name in names}
    for work in works.values():
        work()
    deadline = time.monotonic() + options.seconds
    for number in range(options.rounds):
        for position in rng.permutation(len(names)):
            work = works[names[position]]
            work()  # warms the caches
            start = clock()
            work()
            samples[names[position]].append(clock() - start)
        if number >= 2 and time.monotonic() > deadline:
            break
    return {name: np.array(values) / 1e9 for name, values in samples.items()}


def _interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of the median."""
    return list(bootstrap_interval(lambda picked: float(np.median(values[picked])), len(values)))


if __name__ == "__main__":
    raise SystemExit(main())
