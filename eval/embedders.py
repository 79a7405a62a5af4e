"""What an embedder keeps when it is pruned and distilled without labels, and a reranker with few: two tables.

    python eval/embedders.py embedder --data DIR -o runs/embedders
    python eval/embedders.py reranker --data DIR -o runs/embedders

DIR has corpora in BEIR's layout (`--corpora`), and for texts and STS folders with train.parquet and test.parquet. Models are pruned on
the documents of the corpora, and distilled on these and every text column of the training files; no query of the corpora and no label is
used. What is finished is not made again. Prints the table and writes it to OUTPUT/NAME.md. The share that is kept is the mean over the
corpora; its interval is from a paired bootstrap over the queries.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import compress
from compress.core.console import configure
from compress.core.digests import digest_json
from compress.data.presets import resolve
from compress.data.ranking_metrics import ndcg_at_10
from compress.inference.evaluator import Evaluator
from compress.inference.forward import open_forward
from compress.inference.retriever import open_task
from compress.models.config import read_config
from compress.models.label_mapping import map_labels
from compress.models.reference import digest_model, locate

MODEL = "builtin:minilm-l6"
LENGTH = 128
CORPORA = ("cranfield", "dbpedia-5k")
PRUNED, DISTILLED = (2.0, 3.0), (3.0, 6.0)
RESAMPLES = 10_000
HELD_OUT = 500  # texts that choose the best epoch


def main(given: Sequence[str] | None = None) -> int:
    """Make the models that are missing, and print the table."""
    options = arguments(given)
    options.output.mkdir(parents=True, exist_ok=True)
    configure()
    lines = embedders(options) if options.what == "embedder" else rerankers(options)
    (options.output / f"{options.what}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["embedder", "reranker"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA))
    parser.add_argument("--pruned", nargs="*", type=float, default=list(PRUNED), help="speedups without training")
    parser.add_argument("--distilled", nargs="*", type=float, default=list(DISTILLED), help="speedups with distillation")
    parser.add_argument("--flops", action="store_true", help="aim at 1 / speedup of the FLOPs: no timing, on a busy machine")
    parser.add_argument("--epochs", type=int, default=3, help="of distillation")
    parser.add_argument("--max-texts", type=int, default=None, help="of distillation")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(given)


def embedders(options: argparse.Namespace) -> list[str]:
    """Prune and distil the embedder; return the table of what each keeps."""
    task, documents = (texts_task(options, name) for name in ("texts", "documents"))
    models = {"dense": Path(MODEL)}
    for speedup in options.pruned:
        models[f"{speedup:g}x, pruned"] = pruned(options, MODEL, documents, speedup, "slim")
    for speedup in options.distilled:
        slim, folder = pruned(options, MODEL, documents, speedup, "slim"), options.output / f"student-{speedup:g}x"
        compress.distill(MODEL, slim, task, folder, epochs=options.epochs, max_examples=options.max_texts)
        models[f"{speedup:g}x, distilled"] = folder
    tasks = [{"kind": "sentence-embedding", "beir": str(options.data / name), "max_length": LENGTH} for name in options.corpora]
    scores = [per_query(models, corpus, options.output / "scores") for corpus in tasks]
    sts = options.data / "sts" / "test.parquet"
    correlations = correlation(models, sts) if sts.is_file() else {}
    return table(options.corpora, models, scores, correlations)


def rerankers(options: argparse.Namespace) -> list[str]:
    """Fine-tune a reranker on each corpus, prune and distil it; return the table of its test queries."""
    lines: list[str] = []
    for name in options.corpora:
        task = {
            "kind": "text-ranking", "beir": str(options.data / name), "retriever": MODEL, "shares": [0.5, 0.2, 0.3], "max_length": LENGTH,
        }  # fmt: skip
        where = argparse.Namespace(**{**vars(options), "output": options.output / f"reranker-{name}"})
        where.output.mkdir(exist_ok=True)
        teacher, student = where.output / "teacher", where.output / "student"
        compress.finetune(MODEL, task, teacher, epochs=options.epochs)
        slim = pruned(where, str(teacher), task, 3.0, "slim")
        compress.distill(teacher, slim, task, student, epochs=1)
        compress.export(student, where.output / "graph", task)
        compress.quantize(where.output / "graph", task, where.output / "int8", method="dynamic")
        models = {"dense": teacher, "3x, pruned": slim, "3x, distilled": student, "3x, distilled, int8": where.output / "int8"}
        lines += [*table([name], models, [per_query(models, task, where.output / "scores")], {}), ""]
    return lines


def pruned(options: argparse.Namespace, model: str, task: dict[str, Any], speedup: float, name: str) -> Path:
    """Return the folder of a pruned model, made now or earlier."""
    folder = options.output / f"{name}-{speedup:g}x"
    target: dict[str, Any] = {"target_flops": 1 / speedup} if options.flops else {"target_speedup": speedup}
    compress.prune(model, task, folder, **target)
    return folder


def texts_task(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Write the texts as two files, and return the task of texts alone.

    Args:
        options: of the command line.
        name: `documents` of the corpora, or all `texts`.
    """
    paths = {split: options.output / f"{name}-{split}.jsonl" for split in ("train", "validation")}
    if not all(path.is_file() for path in paths.values()):
        read = read_documents(options.data, options.corpora) if name == "documents" else read_texts(options.data, options.corpora)
        texts = list(dict.fromkeys(text for text in read if text))
        order, held_out = np.random.default_rng(0).permutation(len(texts)).tolist(), min(HELD_OUT, len(texts) // 10)
        for split, places in (("validation", order[:held_out]), ("train", order[held_out:])):
            rows = (json.dumps({"text": texts[place]}, ensure_ascii=False) + "\n" for place in places)
            paths[split].write_text("".join(rows), encoding="utf-8")
    files = {split: str(path) for split, path in paths.items()}
    return {"name": name, "kind": "sentence-embedding", **files, "text": ["text"], "max_length": LENGTH}


def read_documents(data: Path, corpora: Iterable[str]) -> Iterator[str]:
    """Yield the documents of the corpora, with their titles."""
    for name in corpora:
        with (data / name / "corpus.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield f"{row.get('title') or ''} {row['text']}".strip()


def read_texts(data: Path, corpora: Iterable[str]) -> Iterator[str]:
    """Yield the documents of the corpora and every text of the training files."""
    yield from read_documents(data, corpora)
    for path in sorted(data.glob("*/train.parquet")):
        rows = pq.read_table(path)
        for field in rows.schema:
            words = (pa.types.is_list(field.type) or pa.types.is_large_list(field.type)) and is_text(field.type.value_type)
            if is_text(field.type) or words:
                yield from (" ".join(cell) if words else cell.strip() for cell in rows[field.name].to_pylist() if cell)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def per_query(models: dict[str, Path], task: dict[str, Any], cache: Path) -> dict[str, np.ndarray]:
    """Return nDCG@10 of every test query by model, (queries,), computed now or earlier."""
    opened = open_task(resolve(task))
    cache.mkdir(exist_ok=True)
    found: dict[str, np.ndarray] = {}
    for name, reference in models.items():
        folder = locate(str(reference))
        path = cache / f"{digest_json([digest_model(folder), opened.fingerprint])}.npy"
        if not path.is_file():
            evaluator = Evaluator(opened, "test", folder, map_labels(read_config(folder), opened, name))
            rankings = evaluator.predict(open_forward(folder, target=opened.spec.target), label=name)
            np.save(path, ndcg_at_10(evaluator.labels, rankings)[:, 0])
        found[name] = np.load(path)
    return found


def correlation(models: dict[str, Path], path: Path) -> dict[str, float]:
    """Return Spearman's correlation of the cosines with the scores of STS by model."""
    task = {"kind": "sentence-embedding", "test": str(path), "text": ["sentence1", "sentence2"], "max_length": LENGTH}
    document = compress.evaluate(list(models.values()), task)
    return {name: entry["metrics"]["spearman"] for name, entry in zip(models, document["results"], strict=True)}


def table(corpora: Sequence[str], models: dict[str, Path], scores: Sequence[dict[str, np.ndarray]], sts: dict[str, float]) -> list[str]:
    """Return the table: nDCG@10 on each corpus, what is kept of the first model's in the mean with its interval, and STS."""
    heads = ["model", *(f"nDCG@10, {name}, n = {len(next(iter(of.values())))}" for name, of in zip(corpora, scores, strict=True)), "kept"]
    lines = ["| " + " | ".join([*heads, *(["STS, Spearman"] if sts else [])]) + " |"]
    lines.append("|---" * lines[0].count(" | ") + "|---|")
    for name in models:
        share, low, high = kept([of["dense"] for of in scores], [of[name] for of in scores])
        cells = [name, *(f"{100 * of[name].mean():.2f}" for of in scores), f"{100 * share:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"]
        lines.append("| " + " | ".join([*cells, *([f"{100 * sts[name]:.2f}"] if sts else [])]) + " |")
    return lines


def kept(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean over corpora of the second model's mean over the first one's, and its 95 % interval over resampled queries."""
    rng = np.random.default_rng(0)
    ratios = []
    for before, after in zip(first, second, strict=True):
        picked = rng.integers(0, len(before), (RESAMPLES, len(before)))
        ratios.append(after[picked].mean(1) / before[picked].mean(1))
    low, high = np.quantile(np.mean(ratios, axis=0), [0.025, 0.975])
    return float(np.mean([after.mean() / before.mean() for before, after in zip(first, second, strict=True)])), float(low), float(high)


if __name__ == "__main__":
    raise SystemExit(main())
