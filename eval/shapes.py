"""Latency of the published shapes with random weights: compress, optimum-onnx and PyTorch, interleaved.

    python eval/shapes.py -o runs/shapes                                   # all shapes, all cells
    python eval/shapes.py -o runs/shapes --shapes albert-base --seconds 20

Latency does not depend on the weights. optimum-onnx has an environment of its own, as in eval/run.py, and is given the same checkpoint;
a shape that it cannot export says so. fp32 and int8 of both are dynamic graphs of the same kind. Each row is a speedup over PyTorch fp32
(scaled dot product attention), the median of the ratios of interleaved rounds with its 95 % interval. The table goes to OUTPUT/SHAPE.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from harness import environment, rounds
from harness.candidates import WORKER, Candidate, build, build_key
from harness.rounds import CONTROL
from harness.suite import Cell
from harness.workers import Worker, WorkerFailed
from peers import OURS, PEERS

import compress
from compress.benchmark.microbenchmark import random_batch
from compress.core import artifacts, console
from compress.core.errors import CompressError
from compress.models.reference import locate

TOKENIZER = "builtin:minilm-l6"  # any, as long as its 30,522 ids are within the vocabulary (ALBERT's own 30,000 are not)
IDS: dict[str, Any] = {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102}
DEBERTA: dict[str, Any] = {
    "vocab_size": 128100, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "relative_attention": True,
    "position_buckets": 256, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0,
    "position_biased_input": False, "max_relative_positions": -1, "layer_norm_eps": 1e-7, "pooler_hidden_act": "gelu",
    "pooler_hidden_size": 768, "pooler_dropout": 0,
}  # fmt: skip
ALBERT: dict[str, Any] = {
    "vocab_size": 30522, "embedding_size": 128, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu_new",
}  # fmt: skip
SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {  # the model type, its class, its config as published
    "minilm-l6": (
        "bert", "Bert", {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
    "modernbert-base": ("modernbert", "ModernBert", {}),
    "deberta-v3-small": ("deberta-v2", "DebertaV2", {**DEBERTA, "num_hidden_layers": 6}),
    "deberta-v3-base": ("deberta-v2", "DebertaV2", {**DEBERTA, "num_hidden_layers": 12}),
    "albert-base": ("albert", "Albert", ALBERT),
}  # fmt: skip
CELLS = [Cell(batch_size=batch, seq_len=length) for batch, length in ((1, 32), (1, 128), (1, 512), (8, 32), (8, 128))]
BASELINE = "PyTorch fp32"


def main(given: Sequence[str] | None = None) -> int:
    """Make what is missing, time it, print a table a shape."""
    options = arguments(given)
    console.configure()
    for name in options.shapes:
        lines = time_shape(name, options)
        (options.output / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print("\n".join(lines), flush=True)
    return 0


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60, help="interleaved rounds per cell")
    parser.add_argument("--seconds", type=float, default=45.0, help="time limit per cell; fewer rounds are run if it is hit")
    return parser.parse_args(given)


def time_shape(name: str, options: argparse.Namespace) -> list[str]:
    """Return the table of a shape."""
    folder = options.output / name
    folder.mkdir(parents=True, exist_ok=True)
    teacher = write_checkpoint(name, folder / "model")
    candidates = [Candidate(BASELINE, PEERS["pytorch"], "fp32", teacher), *ours(teacher, folder), *peers(teacher, folder)]
    reasons = {candidate.name: candidate.reason for candidate in candidates if candidate.reason}
    vocabulary, rng = json.loads((teacher / "config.json").read_text(encoding="utf-8"))["vocab_size"], np.random.default_rng(0)
    workers: dict[str, Worker] = {}
    cells: dict[str, dict[str, str]] = {}
    try:
        for number, candidate in enumerate([*candidates, Candidate(CONTROL, PEERS["pytorch"], "fp32", teacher)]):
            if candidate.folder is not None:
                worker = workers[candidate.name] = candidate.start(folder / f"{number}.log", options.threads)
                worker.open(candidate.peer.module, candidate.variant, candidate.folder, options.threads)
        for cell in CELLS:
            batch = random_batch(rng, vocabulary, cell.batch_size, cell.seq_len)
            times, failed = rounds.measure(dict(workers), f"{name}, {cell.title}", batch, options.rounds, options.seconds, 2, rng)
            for failing, reason in failed.items():
                reasons[failing] = reason
                workers.pop(failing).close()
            cells[cell.title] = {row: describe(facts) for row, facts in rounds.describe(times, BASELINE).items()}
    finally:
        for worker in workers.values():
            worker.close()
    return table(name, [candidate.name for candidate in candidates] + [CONTROL], cells, reasons)


def write_checkpoint(name: str, folder: Path) -> Path:
    """Write a classifier of the shape with random weights, as transformers saves it; returns its folder."""
    if not (folder / "model.safetensors").is_file():
        family, prefix, settings = SHAPES[name]
        config = transformers.AutoConfig.for_model(family, **settings, **IDS)
        torch.manual_seed(0)
        getattr(transformers, f"{prefix}ForSequenceClassification")(config).save_pretrained(str(folder))
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            source = locate(TOKENIZER) / file
            if source.is_file():
                (folder / file).write_bytes(source.read_bytes())
    return folder


def ours(teacher: Path, folder: Path) -> list[Candidate]:
    """Return our graphs, fp32 and dynamic int8."""
    compress.export(teacher, folder / "fp32", overwrite=True)
    compress.quantize(folder / "fp32", None, folder / "int8", method="dynamic", overwrite=True)
    return [Candidate(f"compress {kind}", OURS, "onnx", folder / kind) for kind in ("fp32", "int8")]


def peers(teacher: Path, folder: Path) -> list[Candidate]:
    """Return optimum-onnx's graphs of the same kinds, or the reason why there is none."""
    peer, made = PEERS["optimum-onnx"], []
    calibration = folder / "calibration.json"  # dynamic graphs take none
    calibration.write_text("[]", encoding="utf-8")
    for variant in ("fp32", "O3", "int8"):
        output = folder / f"optimum-{variant}"
        try:
            python, key = environment.interpreter(peer), build_key(peer, variant, teacher, calibration)
            if (artifacts.read_manifest(output) or {}).get("key") != key:
                console.info(peer.variants[variant])
                build(peer, variant, [str(python), str(WORKER)], teacher, calibration, output, key)
        except (CompressError, WorkerFailed) as error:
            made.append(Candidate(peer.variants[variant], peer, variant, reason=error.message))
        else:
            made.append(Candidate(peer.variants[variant], peer, variant, output))
    return made


def describe(facts: dict[str, Any]) -> str:
    """Return a cell of the table: speedup, its interval, milliseconds."""
    ratio, (low, high) = facts["speedup"]["ratio"], facts["speedup"]["ci95"]
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}], {facts['latency_ms']['p50']:.1f} ms"


def table(name: str, rows: list[str], cells: dict[str, dict[str, str]], reasons: dict[str, str]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [f"| {name} | {' | '.join(cells)} |", "|---" * (len(cells) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(cells[cell].get(row, '') for cell in cells)} |" for row in rows if row not in reasons]
    return lines + [f"{row} was not measured: {reason}" for row, reason in reasons.items()]


if __name__ == "__main__":
    sys.exit(main())
