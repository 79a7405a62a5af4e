"""Do other clients open what compress writes, with the same vectors and scores? Runs the lines of the model cards.

    python eval/clients.py                                   # builtin:minilm-l6: checkpoint, graph, int8, and each layout
    python eval/clients.py --model EMBEDDER --reranker RERANKER --only fastembed

Each client has an environment of its own below `$COMPRESS_CACHE/peers`, made on the first run (sentence-transformers 2 GB, transformers.js
0.5 GB). Prints a table; exit code 1 if a client disagrees, 5 if none could be tried.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from harness import environment
from peers import Peer

import compress
from compress.core import console, files, locks
from compress.core.errors import CompressError, ModelError, ResourceError
from compress.inference.predictor import open_predictor
from compress.models.config import read_config
from compress.models.layout import graph_file, is_graph
from compress.models.reference import locate
from compress.report.client_usage import PASSAGES, QUERY, TEXTS
from compress.report.usage import TEXT

PYTHON_CLIENTS = {name: Peer(name, f"peers.{name}", {}) for name in ("sentence-transformers", "fastembed")}
ONNXRUNTIME = "onnxruntime"  # alone, in the environment of fastembed, which has neither torch nor compress
TRANSFORMERS_JS, JS_VERSION = "transformers.js", "4.3.2"
CLIENTS = (*PYTHON_CLIENTS, ONNXRUNTIME, TRANSFORMERS_JS)
MARKERS = {
    "sentence-transformers": "sentence_transformers",
    "fastembed": "fastembed",
    ONNXRUNTIME: "InferenceSession",
    TRANSFORMERS_JS: "@huggingface",
}
LOWEST_COSINE, LARGEST_DIFFERENCE = 0.9999, 1e-3
MORE_TEXTS = ["", "Éclair, naïve café – 3 €", "a", "two words", "1 + 1 = 2"]
LONG_TEXTS = [
    "The bridge opened in 1932, after eight years of work. " * 3,
    "word " * 600,
]  # transformers.js cuts off their last token, [SEP]; an empty passage is no passage there
SECONDS = 900
RUN = """import json, sys
import numpy as np
rows = []
for code in json.load(open(sys.argv[1], encoding="utf-8")):
    found = {}
    exec(compile(code, "card", "exec"), found)
    rows += [np.asarray(row) for row in next(found[name] for name in ("vectors", "scores") if name in found)]
np.save(sys.argv[2], np.asarray(rows, dtype=np.float32))
"""
JS_ENDING = """
import { writeFileSync } from "node:fs";
writeFileSync(process.argv[2], JSON.stringify((typeof vectors === "undefined" ? scores : vectors).tolist()));
"""


@dataclass(frozen=True)
class Outcome:
    """What a client made of a folder.

    Attributes:
        client: its name.
        folder: what was opened, as tables call it.
        agreement: the lowest cosine of vectors, or the largest difference of scores; None if it was not tried.
        agrees: whether that is within the limit.
        reason: why it was not tried, or what it said.
    """

    client: str
    folder: str
    agreement: float | None = None
    agrees: bool = False
    reason: str = ""


def block_of(card: str, client: str) -> str | None:
    """Return a client's lines in a model card; None if the card has none."""
    language = "js" if client == TRANSFORMERS_JS else "python"
    blocks = re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)
    return next((block for block in blocks if MARKERS[client] in block), None)


def with_texts(block: str, texts: Sequence[str]) -> str:
    """Return the lines with other texts (or passages) than the card's; nothing else is changed."""
    for own in (TEXTS, PASSAGES):
        block = block.replace(json.dumps(own), json.dumps(list(texts)))
    return block


def run_client(client: str, folder: Path, texts: Sequence[str]) -> np.ndarray:
    """Run a client's lines of the card in a folder, on these texts; returns its vectors, (n, size), or scores, (n,).

    Raises:
        ModelError: the card has no lines for it, or they fail.
        ResourceError: its environment cannot be made.
    """
    block = block_of((folder / "README.md").read_text(encoding="utf-8"), client)
    if block is None:
        raise ModelError(f"the card has no lines for {client}")
    if client == ONNXRUNTIME:  # its lines encode one text
        return _run_python(folder, [block.replace(json.dumps(TEXT), json.dumps(text)) for text in texts], "fastembed")
    if client == TRANSFORMERS_JS:
        return _run_js(folder, with_texts(block, texts))
    return _run_python(folder, [with_texts(block, texts)], client)


def _run_python(folder: Path, codes: Sequence[str], client: str) -> np.ndarray:
    """Return the rows that the lines of a card leave, of one run after the other."""
    python = environment.interpreter(PYTHON_CLIENTS[client])
    with tempfile.TemporaryDirectory() as scratch:
        given, found, runner = (Path(scratch) / name for name in ("codes.json", "found.npy", "run.py"))
        given.write_text(json.dumps(list(codes)), encoding="utf-8")
        runner.write_text(RUN, encoding="utf-8")
        _call([str(python), str(runner), str(given), str(found)], folder)
        return np.load(found)


def node_modules() -> Path:
    """Return the folder in which transformers.js is installed, installing it where it is not.

    Raises:
        ResourceError: node or npm is missing, or the package cannot be installed.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        raise ResourceError("node and npm are not installed")
    folder = environment.peers_folder() / TRANSFORMERS_JS
    stamp = folder / environment.STAMP
    with locks.locked(folder, wait=True):
        if not stamp.is_file() or json.loads(stamp.read_text(encoding="utf-8")) != {"version": JS_VERSION}:
            console.info(f"making the environment of {TRANSFORMERS_JS}")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            files.write_json(folder / "package.json", {"private": True, "type": "module"})
            # Its install scripts would download what only GPUs need.
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"@huggingface/transformers@{JS_VERSION}"]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
            except subprocess.TimeoutExpired:
                raise ResourceError(f"installing {TRANSFORMERS_JS} took longer than {SECONDS // 60} minutes") from None
            if done.returncode:
                raise ResourceError(f"{TRANSFORMERS_JS} could not be installed: {environment.reason(done.stderr)}")
            files.write_json(stamp, {"version": JS_VERSION})
    return folder


def _run_js(folder: Path, code: str) -> np.ndarray:
    modules = node_modules()
    script = modules / f"card-{os.getpid()}.mjs"  # imports are resolved from where the module is
    script.write_text(code + JS_ENDING, encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        _call(["node", str(script), f"{scratch}/found.json"], folder)
        script.unlink()
        return np.asarray(json.loads((Path(scratch) / "found.json").read_text(encoding="utf-8")), dtype=np.float32)


def _call(command: list[str], folder: Path) -> None:
    """Run a client in a model's folder.

    Raises:
        ModelError: it failed; the message is the last thing that it said.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment.variables(True, 1)
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"no result within {SECONDS // 60} minutes") from None
    if done.returncode:
        raise ModelError(environment.reason(done.stderr))


def compare(client: str, folder: Path, name: str, reranker: bool, texts: Sequence[str]) -> Outcome:
    """Compare a client's vectors or scores of a folder with those of compress."""
    predict = open_predictor(folder)
    try:
        found = run_client(client, folder, texts)
    except ResourceError as error:
        return Outcome(client, name, reason=error.message)
    except CompressError as error:
        return Outcome(client, name, agreement=float("nan"), reason=error.message)
    if reranker:
        expected = np.array([prediction.value for prediction in predict([(QUERY, text) for text in texts])])  # pyright: ignore[reportAttributeAccessIssue]
        found = found.reshape(-1)
        if client in ("fastembed", TRANSFORMERS_JS) and _sigmoid(folder):
            found = 1 / (1 + np.exp(-found))  # these clients return logits
        worst = float(np.abs(expected - found).max())
        return Outcome(client, name, worst, worst <= LARGEST_DIFFERENCE)
    batches = [[text] for text in texts] if client == ONNXRUNTIME else [list(texts)]  # as the client: dynamic int8 depends on the batch
    expected = np.stack([prediction.vector for batch in batches for prediction in predict(batch)])  # pyright: ignore[reportAttributeAccessIssue]
    found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    cosines = (found * expected).sum(1) / np.maximum(np.linalg.norm(expected, axis=1), 1e-12)
    return Outcome(client, name, float(cosines.min()), bool(cosines.min() >= LOWEST_COSINE))


def _sigmoid(folder: Path) -> bool:
    from compress.models.activation import value_activation

    return value_activation(read_config(folder)) == "sigmoid"


def clients_of(folder: Path) -> Iterator[str]:
    """Yield the clients that a folder's card has lines for."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    yield from (client for client in CLIENTS if block_of(card, client))


def write_folders(model: Path, scratch: Path, task: dict[str, object] | None) -> Iterator[tuple[str, Path]]:
    """Yield what compress writes from a checkpoint: its graph, an int8 graph, and both in the layouts of other clients."""
    compress.export(model, scratch / "graph", task)
    yield "graph", scratch / "graph"
    compress.quantize(scratch / "graph", task, scratch / "int8", method="dynamic")
    yield "int8", scratch / "int8"
    compress.export(scratch / "graph", scratch / "st", task, layout="sentence-transformers")
    yield "layout sentence-transformers", scratch / "st"
    for name in ("graph", "int8"):
        compress.export(scratch / name, scratch / f"{name}-js", task, layout="transformers.js")
        yield f"layout transformers.js, {name}", scratch / f"{name}-js"
    compress.export(scratch / "int8", scratch / "tei", task, layout="text-embeddings-inference")
    yield "layout text-embeddings-inference, int8", scratch / "tei"


def compare_all(
    model: Path, scratch: Path, reranker: bool, only: Sequence[str] = CLIENTS, task: dict[str, object] | None = None
) -> list[Outcome]:
    """Compare every client with compress on every folder that it opens."""
    texts = [*(PASSAGES if reranker else TEXTS), *MORE_TEXTS]
    outcomes = []
    for name, folder in write_folders(model, scratch, task):
        assert is_graph(folder) and graph_file(folder).is_file()  # noqa: S101, PT018
        for client in clients_of(folder):
            if client in only and not (client == ONNXRUNTIME and reranker):
                given = [text for text in texts if text or not reranker] if client == TRANSFORMERS_JS else texts + LONG_TEXTS
                outcomes.append(compare(client, folder, name, reranker, given))
                console.info(f"  {describe(outcomes[-1])}")
    return outcomes


def describe(outcome: Outcome) -> str:
    """Return an outcome as a line."""
    if outcome.agreement is None:
        return f"{outcome.client}, {outcome.folder}: not tried: {outcome.reason}"
    verdict = "agrees" if outcome.agrees else "DIFFERS"
    return f"{outcome.client}, {outcome.folder}: {verdict} ({outcome.reason or f'{outcome.agreement:.7f}'})"


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description="Do other clients open what compress writes?")
    parser.add_argument("--model", default="builtin:minilm-l6", help="an embedder")
    parser.add_argument("--reranker", help="a cross-encoder")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="clients")
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, reranker in ((arguments.model, False), (arguments.reranker, True)):
            if name:
                (folder := Path(scratch) / ("reranker" if reranker else "embedder")).mkdir()
                outcomes += compare_all(locate(name), folder, reranker, arguments.only)
    print("\n".join(map(describe, outcomes)))
    tried = [outcome for outcome in outcomes if outcome.agreement is not None]
    return 5 if not tried else int(not all(outcome.agrees for outcome in tried))


if __name__ == "__main__":
    sys.exit(main())
