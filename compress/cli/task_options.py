"""The options that describe a task, and the task that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, cast, get_args

import click

from compress.cli.options import Decorated, option
from compress.core.errors import UsageError
from compress.data.input_spec import POOLINGS
from compress.data.spec import Kind, MetricName
from compress.settings.base import TASK, flag

TASK_FIELDS = (
    "kind", "multi_label", "no_answer", "separator", "pooling", "beir", "run", "retriever", "train", "validation", "test", "text", "label",
    "max_length", "metric",
)  # fmt: skip
FILES = ("train", "validation", "test")
FIXED = (  # what a preset or a task file fixes
    "kind", "multi_label", "no_answer", "separator", "pooling", "beir", "run", "retriever", "text", "label",
)  # fmt: skip
KINDS = get_args(Kind)


class TaskFlags(TypedDict, total=False):
    """The options of a task that were given, apart from its files."""

    kind: str
    multi_label: bool
    no_answer: bool
    separator: str
    pooling: str
    beir: str
    run: str
    retriever: str
    text: tuple[str, ...]
    label: str
    max_length: int
    metric: tuple[str, ...]


METRIC_NAMES = get_args(MetricName)
OPTIONS = (
    option("--task", section=TASK, metavar="NAME|FILE", help="A preset (see 'compress tasks list') or a task file (YAML)."),
    option("--kind", section=TASK, type=click.Choice(KINDS), help="Kind of task, for local files.  [default: text-classification]"),
    option(
        "--multi-label",
        section=TASK,
        is_flag=True,
        default=None,
        help="A text may have any number of labels (a list, or a|b).",
    ),
    option("--separator", section=TASK, metavar="TEXT", help="Between the labels of a text, with --multi-label.  [default: |]"),
    option("--no-answer", section=TASK, is_flag=True, default=None, help="A question may have no answer in its context (SQuAD 2.0)."),
    option(
        "--pooling",
        section=TASK,
        type=click.Choice(POOLINGS),
        help="How an encoder whose folder does not say so makes one vector of its tokens (sentence-embedding).",
    ),
    option(
        "--beir",
        section=TASK,
        metavar="DIR|REPO",
        help="Corpus, queries and judgements in BEIR's layout (sentence-embedding, text-ranking).",
    ),
    option("--run", section=TASK, metavar="FILE", help="With --beir, candidates of the queries for text-ranking: a TREC run file."),
    option("--retriever", section=TASK, metavar="MODEL", help="With --beir, an embedder that finds these candidates, instead of --run."),
    option("--train", section=TASK, metavar="FILE", help="Local training file: .parquet, .csv, .tsv or .jsonl."),
    option(
        "--validation", section=TASK, metavar="FILE", help="Local validation file. Without one, 10 % of the training data are held out."
    ),
    option("--test", section=TASK, metavar="FILE", help="Local test file."),
    option(
        "--text",
        section=TASK,
        multiple=True,
        metavar="COLUMN",
        help="Column of the text or tokens. For text pairs, or question and context: --text a --text b.",
    ),
    option("--label", section=TASK, metavar="COLUMN", help="Column of the labels, values, tags or answers.  [default: label, or answers]"),
    option("--max-length", section=TASK, type=int, help="Longest input in tokens.  [default: the task's, or 128]"),
    option(
        "--metric",
        section=TASK,
        multiple=True,
        type=click.Choice(METRIC_NAMES),
        help="Metrics; the first is the main one. Several: repeat the option.  [default: by kind]",
    ),
)


def task_options(function: Decorated) -> Decorated:
    """Add `--task`, and the options that describe local files."""
    for add in reversed(OPTIONS):
        function = add(function)
    return function


def required_task(verb: str, values: dict[str, object]) -> str | Mapping[str, object]:
    """Return the task that the options describe; removes them from `values`.

    Raises:
        UsageError: no task, or options that `task_of` refuses.
    """
    task = task_of(values)
    if task is None:
        raise UsageError(f"{verb} needs a task", "give --task T, or --train, --validation, --text and --label")
    return task


def task_of(values: dict[str, object]) -> str | Mapping[str, object] | None:
    """Return the task that the options describe, or None; removes them from `values`.

    Raises:
        UsageError: `--task` together with options that it fixes, or options without a file or a text column.
    """
    task = cast("str | None", values.pop("task"))
    fields = {name: value for name in TASK_FIELDS if (value := values.pop(name)) not in (None, ())}
    files = {name: str(fields.pop(name)) for name in FILES if name in fields}
    flags = cast("TaskFlags", fields)
    if task is not None:
        clash = next((name for name in flags if name in FIXED), None)
        if clash:
            raise UsageError(f"{flag(clash)} does not go with --task", "a preset or task file already names its columns")
        return _adjusted(task, files, flags) if files or flags else task
    if not files and not flags:
        return None
    if "beir" in flags and files:
        raise UsageError("--beir and data files do not go together", "give one of them")
    if not files and "beir" not in flags:
        raise UsageError("no data file was given", "add --train FILE, --validation FILE or --test FILE")
    if "text" not in flags and "beir" not in flags and flags.get("kind") != "coreference":
        raise UsageError("no text column was given", "add --text COLUMN (twice for text pairs)")
    document = {name: value for name, value in flags.items() if name not in ("text", "metric")}
    metrics = {"metrics": list(flags["metric"])} if "metric" in flags else {}
    return {**({"text": list(flags["text"])} if "text" in flags else {}), **files, **document, **metrics}


def _adjusted(task: str, files: dict[str, str], flags: TaskFlags) -> dict[str, object]:
    """Return a preset's document with local files, another maximum length or other metrics."""
    from compress.data.presets import resolve

    spec = resolve(task)
    document = (spec.with_files(files) if files else spec).model_dump(mode="json", exclude_none=True)
    if "max_length" in flags:
        document["max_length"] = flags["max_length"]
    if "metric" in flags:
        document["metrics"] = list(flags["metric"])
    return document
