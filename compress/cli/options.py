"""Command-line options made from a verb's settings, and the options that describe a task."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click

from compress.core.errors import UsageError
from compress.data.spec import Kind, MetricName
from compress.settings import Settings

Decorator = Callable[[Any], Any]
TASK_FIELDS = ("kind", "multi_label", "no_answer", "train", "validation", "test", "text", "label", "max_length", "metric")
KINDS = get_args(Kind)
METRIC_NAMES = get_args(MetricName)
_NUMBER = re.compile(r"\d+(\.\d+)?")


def settings_options(model: type[Settings], skip: tuple[str, ...] = ()) -> Decorator:
    """Add one option a field of `model`: `target_flops` becomes `--target-flops`, with its default and description."""

    def decorate(function: Any) -> Any:
        for name, field in reversed(model.model_fields.items()):
            if name not in skip:
                function = _option(name, field.annotation, field.default, field.description or "")(function)
        return function

    return decorate


def _option(name: str, annotation: Any, default: Any, description: str) -> Decorator:
    flag = f"--{name.replace('_', '-')}"
    kind = _bare(annotation)
    if kind is bool:
        return click.option(f"{flag}/--no-{name.replace('_', '-')}", name, default=default, show_default=True, help=description)
    if get_origin(kind) is list:
        item = _bare(get_args(kind)[0])
        shown = f"  [default: {' '.join(str(value) for value in default)}]" if default else ""
        several = (
            "" if default is None else " Several: repeat it." if get_origin(item) is Literal or item is str else " Several: list them."
        )
        text = f"{description}{several}{shown}"
        return click.option(flag, name, cls=Several, type=_click_type(item), multiple=True, help=text)
    if get_origin(kind) is Literal:
        return click.option(flag, name, type=_click_type(kind), default=default, show_default=True, help=description)
    return click.option(flag, name, type=_click_type(kind), default=default, show_default=default is not None, help=description)


class Several(click.Option):
    """An option that takes all the numbers that follow it (`--threads 1 2`), and may be repeated."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser hand over the numbers behind the first value, too."""
        super().add_to_parser(parser, ctx)
        for name in self.opts:
            option = parser._long_opt[name]
            option.process = _greedy(option.process)


def _greedy(process: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def take(value: Any, state: Any) -> None:
        process(value, state)
        while state.rargs and _NUMBER.fullmatch(state.rargs[0]):
            process(state.rargs.pop(0), state)

    return take


class NumberOrAuto(click.ParamType):
    """A whole number, or the word `auto`."""

    name = "integer|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or `auto` as it is."""
        return value if value == "auto" else click.INT.convert(value, param, ctx)


def _click_type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice(list(get_args(kind)))
    return NumberOrAuto() if set(get_args(kind)) == {int, Literal["auto"]} else kind


def _bare(annotation: Any) -> Any:
    """Strip `Annotated` and `| None` off an annotation."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_bare(part) for part in get_args(annotation) if part is not type(None)]
        return Union[tuple(parts)]  # noqa: UP007 (of one part it is that part)
    return annotation


def given(model: type[Settings], values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the user gave (or that have a default) as a stage's fields."""
    fields: dict[str, Any] = {}
    for name in model.model_fields:
        value = values.get(name)
        if value is not None and value != ():
            fields[name] = list(value) if isinstance(value, tuple) else value
    return fields


def task_options(required: bool) -> Decorator:
    """Add `--task`, or the flags that describe local files."""
    options = [
        click.option("--task", help="A preset (see 'compress tasks list') or a task file (YAML)."),
        click.option("--kind", type=click.Choice(KINDS), help="Kind of task, for local files.  [default: text-classification]"),
        click.option("--multi-label", is_flag=True, default=None, help="A text may have any number of labels (a list, or a|b)."),
        click.option("--no-answer", is_flag=True, default=None, help="A question may have no answer in its context (SQuAD 2.0)."),
        click.option("--train", help="Local training file: .parquet, .csv, .tsv or .jsonl."),
        click.option("--validation", help="Local validation file (else a tenth of train is held out)."),
        click.option("--test", help="Local test file."),
        click.option("--text", multiple=True, help="Text column; twice for pairs of texts, or question and context; or the tokens."),
        click.option("--label", help="Column of the label, value, tags or answers.  [default: label, or answers]"),
        click.option("--max-length", type=int, help="Longest input in tokens.  [default: the task's, or 128]"),
        click.option("--metric", multiple=True, type=click.Choice(METRIC_NAMES), help="The first is the main one.  [default: by kind]"),
    ]

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def task_of(values: dict[str, Any]) -> str | dict[str, Any] | None:
    """Return the task that the options describe (and take them out of `values`), or None where there is none.

    Raises:
        UsageError: `--task` together with flags that it settles already, or flags without a file or a text column.
    """
    task = values.pop("task")
    flags = {name: value for name in TASK_FIELDS if (value := values.pop(name)) not in (None, ())}
    files = {name: flags.pop(name) for name in ("train", "validation", "test") if name in flags}
    if task is not None:
        clash = [name for name in flags if name in {"kind", "multi_label", "no_answer", "text", "label"}]
        if clash:
            raise UsageError(f"--{clash[0].replace('_', '-')} does not go with --task", "a preset or task file names its columns itself")
        if not files and not flags:
            return task
        return _adjusted(task, files, flags)
    if not files and not flags:
        return None
    if not files:
        raise UsageError("no data file was given", "add --train F, --validation F or --test F")
    if "text" not in flags:
        raise UsageError("no text column was given", "add --text COLUMN (twice for pairs of texts)")
    fields = {name: flags[name] for name in ("kind", "multi_label", "no_answer", "label", "max_length") if name in flags}
    document = {"text": list(flags["text"]), **files, **fields}
    return document | ({"metrics": list(flags["metric"])} if "metric" in flags else {})


def _adjusted(task: str, files: dict[str, str], flags: dict[str, Any]) -> dict[str, Any]:
    """Return a preset's document with local files, another length or other metrics."""
    from compress import data as tasks

    spec = tasks.resolve(task)
    document = (spec.with_files(files) if files else spec).model_dump(mode="json", exclude_none=True)
    if "max_length" in flags:
        document["max_length"] = flags["max_length"]
    if "metric" in flags:
        document["metrics"] = list(flags["metric"])
    return document
