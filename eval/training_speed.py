"""Time `compress finetune` against transformers' Trainer: `python eval/training_speed.py sst2 [--data DIR] [--limit N]`.

The same encoder, texts, epochs and threads; each training in a separate process, alternating for each seed. Accuracy is
measured afterwards, by the same code, on a split that no training has seen where the task has one. Three ways:

    compress          `compress finetune` as it comes, its best epoch by validation kept
    trainer           Trainer as it comes (batch 8, learning rate 5e-5), padded batch by batch, validated after each epoch
    trainer-matched   Trainer with compress's batch size, learning rate and warm-up
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from compress import api
from compress.core import console, files, machine
from compress.core.errors import CompressError
from compress.data import presets
from compress.data.encoded import Encoded
from compress.data.spec import TaskSpec
from compress.data.task import Task
from compress.models.inputs import encode_for
from compress.models.reference import locate
from compress.settings import TrainSettings

WAYS = ("compress", "trainer", "trainer-matched")
SPLITS = ("train", "validation", "test")
Document = dict[str, Any]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="eval/training_speed.py", description="Time compress finetune against transformers' Trainer.")
    parser.add_argument("task", help="a preset or task file: one class of a text")
    parser.add_argument("--data", type=Path, help="a folder with TASK/train.parquet and so on; by default the data of the task")
    parser.add_argument("--model", default="builtin:minilm-l6", help="the encoder")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=int, help="only so many training examples")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/training-speed"))
    parser.add_argument("--child", help=argparse.SUPPRESS)  # one training, for this script's own processes
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run all trainings; returns the exit code."""
    options = arguments(given)
    if options.child:
        print(json.dumps(train(json.loads(options.child))))
        return 0
    console.configure()
    try:
        document = run(options)
    except CompressError as error:
        print(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    print(page(document))
    return 0


def run(options: argparse.Namespace) -> Document:
    """Train and measure; returns (and writes) all results."""
    options.output.mkdir(parents=True, exist_ok=True)
    spec = prepared(options)
    results: list[Document] = []
    for seed in options.seeds:
        for way in options.ways:
            folder = options.output / f"{way}-{seed}"
            order = {"way": way, "seed": seed, "model": options.model, "epochs": options.epochs, "folder": str(folder)}
            console.info(f"seed {seed}: {way}")
            command = [sys.executable, __file__, options.task, "--child", json.dumps(order | {"task": spec.model_dump(mode="json")})]
            started = time.monotonic()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise CompressError(f"{way} failed with exit code {done.returncode}", "its message is above")
            seconds = time.monotonic() - started
            scores = api.evaluate([folder], spec.model_dump(mode="json", exclude_none=True))
            result = {"way": way, "seed": seed, "process_seconds": seconds, "split": scores["split"], "n": scores["n"]}
            results.append(result | json.loads(done.stdout.splitlines()[-1]) | {"metrics": scores["results"][0]["metrics"]})
    document = {
        "task": options.task,
        "model": options.model,
        "epochs": options.epochs,
        "examples": len(Task(spec).split("train")),
        "main_metric": spec.main_metric,
        "machine": machine.facts(),
        "results": results,
    }
    files.write_json(options.output / "training_speed.json", document)
    return document


def prepared(options: argparse.Namespace) -> TaskSpec:
    """Return the task on local files: those of `--data`, or those of the task, with `--limit` of its training examples."""
    import pandas as pd

    spec = presets.resolve(options.task)
    if options.data:
        paths = {split: options.data / spec.name / f"{split}.parquet" for split in SPLITS}
        spec = spec.with_files({split: str(path) for split, path in paths.items() if path.is_file()})
    task = Task(spec)
    if not options.limit:
        return spec
    paths = {}
    for split in task.available:
        examples = task.split(split)
        if split == "train":
            examples = examples.take(np.sort(np.random.default_rng(0).permutation(len(examples))[: options.limit]))
        columns = {column: [text[number] for text in examples.texts] for number, column in enumerate(spec.text)}
        labels = [task.label_names[label] for label in examples.labels]
        paths[split] = str(options.output / f"{split}.parquet")
        pd.DataFrame({**columns, spec.label: labels}).to_parquet(paths[split])
    return spec.model_copy(update={"labels": list(task.label_names)}).with_files(paths)


def train(order: Document) -> Document:
    """Do one training; returns its seconds: of the training loop with its validation, and of all that the verb does."""
    folder, task = Path(order["folder"]), Task(presets.resolve({key: value for key, value in order["task"].items() if value is not None}))
    if order["way"] != "compress":
        return trainer(order, task, folder)
    document = api.finetune(
        order["model"],
        task.spec.model_dump(mode="json", exclude_none=True),
        folder,
        seed=order["seed"],
        epochs=order["epochs"],
        overwrite=True,
    )
    return {
        "train_seconds": document["training"]["seconds"],
        "steps": document["training"]["steps"],
        "precision": document["training"]["precision"],
    }


def trainer(order: Document, task: Task, folder: Path) -> Document:
    """Train with transformers' Trainer, and save the model as it is after the last epoch."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    source = locate(order["model"])
    names = dict(enumerate(task.label_names))
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(names), id2label=names, label2id={name: number for number, name in names.items()}
    )
    tokenizer = AutoTokenizer.from_pretrained(source)
    matched: Document = {}
    if order["way"] == "trainer-matched":
        ours = TrainSettings()
        matched = {
            "per_device_train_batch_size": ours.batch_size,
            "learning_rate": our_lr(model),
            "warmup_steps": ours.warmup,
            "weight_decay": ours.weight_decay,
        }
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            output_dir=scratch, num_train_epochs=order["epochs"], seed=order["seed"], eval_strategy="epoch", save_strategy="no",
            report_to="none", disable_tqdm=True, **matched,
        )  # fmt: skip
        data = {name: rows(encode_for(source, task.split(name), task.spec.input_spec)) for name in ("train", "validation")}
        learner = Trainer(
            model, settings, DataCollatorWithPadding(tokenizer), data["train"], data["validation"], compute_metrics=accuracy,
        )  # fmt: skip
        started = time.monotonic()
        outcome = learner.train()
        seconds = time.monotonic() - started
    model.to("cpu").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"train_seconds": seconds, "steps": outcome.global_step, "precision": "bf16" if settings.bf16 else "fp32"}


def our_lr(model: Any) -> float:
    """Return the learning rate that `compress finetune` takes for a model."""
    from compress.training.learning_rate import default_lr

    return default_lr(model)


def rows(data: Encoded) -> list[Document]:
    """Return encoded examples as Trainer takes them: the very same token ids."""
    return [
        {"input_ids": ids.tolist(), "token_type_ids": types.tolist(), "attention_mask": [1] * len(ids), "label": int(label)}
        for ids, types, label in zip(data.input_ids, data.token_type_ids, data.labels, strict=True)
    ]


def accuracy(outputs: Any) -> dict[str, float]:
    """Return the share of correct predictions."""
    return {"accuracy": float((outputs.predictions.argmax(-1) == outputs.label_ids).mean())}


def page(document: Document) -> str:
    """Return the results as a table in Markdown: means over the seeds, and the spread if there are several."""
    main, first = document["main_metric"], document["results"][0]
    lines = [
        f"{document['model']} on {document['task']}: {document['examples']} examples, {document['epochs']} epochs, "
        f"{document['machine']['cpu']}; {main} on {first['split']} (n = {first['n']})",
        "",
        f"| way | precision | steps | training, s | whole process, s | {main} |",
        "|---|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(result["way"] for result in document["results"]):
        runs = [result for result in document["results"] if result["way"] == way]
        cells = [spread([result[key] for result in runs], 1) for key in ("train_seconds", "process_seconds")]
        score = spread([100 * result["metrics"][main] for result in runs], 2)
        lines.append(f"| {way} | {runs[0]['precision']} | {runs[0]['steps']} | {' | '.join(cells)} | {score} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Write a mean, with the standard deviation of several values."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
