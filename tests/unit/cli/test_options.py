"""Options made from settings, and the task that flags describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pytest

from compress.cli import options
from compress.cli.main import cli
from compress.core.errors import RecipeError, UsageError
from compress.data import presets, resolve
from compress.recipe.verbs import VERBS
from compress.settings import BenchSettings, FinetuneSettings


def parameters(verb: str) -> dict[str | None, click.Parameter]:
    """Return a verb's parameters by name."""
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return {parameter.name: parameter for parameter in found.params}


# What --task says on the command line is not an option of its own.
FIELDS = [
    (verb.name, name) for verb in VERBS.values() for name in verb.settings.model_fields if name != "task_lengths"
]  # on the command line --task says so


@pytest.mark.parametrize(("verb", "name"), FIELDS)
def test_every_setting_is_an_option_with_its_default(verb: str, name: str) -> None:
    field, option = VERBS[verb].settings.model_fields[name], parameters(verb)[name]
    assert isinstance(option, click.Option)
    assert f"--{name.replace('_', '-')}" in option.opts
    assert field.description
    assert (option.help or "").startswith(field.description)
    kind = options._bare(field.annotation)
    if get_origin(kind) is list:
        assert option.multiple
        assert " ".join(map(str, field.default or [])) in (option.help or "")
    else:
        assert option.default == field.default or (field.default is None and option.to_info_dict()["default"] is None)
    if get_origin(kind) is Literal:
        assert isinstance(option.type, click.Choice)
        assert list(option.type.choices) == list(get_args(kind))


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_given_becomes_the_settings_defaults(verb: str) -> None:
    """Parse a command line without options: the settings are those of an empty recipe stage."""
    settings = VERBS[verb].settings
    least: dict[str, dict[str, Any]] = {"prune": {"target_flops": 0.5}, "factorize": {"rank": 8}, "share": {"layers": 2}}
    fields = least.get(verb, {})
    names = [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    needed = {"eval": ["m"], "bench": ["m"], "distill": ["--teacher", "t", "--student", "s", "-o", "x"]}.get(verb, ["m", "-o", "x"])
    context = found.make_context(verb, [*needed, *names])
    expected = settings.model_validate(fields)
    assert settings.model_validate(options.given(settings, context.params)) == expected


def test_values_reach_the_settings() -> None:
    found = cli.get_command(click.Context(cli), "finetune")
    assert found is not None
    context = found.make_context("finetune", ["m", "-o", "x", "--epochs", "7", "--lr", "1e-5", "--freeze-embeddings", "--patience", "2"])
    settings = FinetuneSettings.model_validate(options.given(FinetuneSettings, context.params))
    assert (settings.epochs, settings.lr, settings.freeze_embeddings, settings.patience) == (7, 1e-5, True, 2)
    context = cli.get_command(click.Context(cli), "bench").make_context("bench", ["m", "--threads", "1", "--threads", "4", "--no-memory"])  # type: ignore[union-attr]
    bench = BenchSettings.model_validate(options.given(BenchSettings, context.params))
    assert (bench.threads, bench.memory, bench.seq_len) == ([1, 4], False, [32, 128])


def task(*arguments: str) -> Any:
    """Return the task that flags of `eval` describe."""
    found = cli.get_command(click.Context(cli), "eval")
    assert found is not None
    values = dict(found.make_context("eval", ["m", *arguments]).params)
    result = options.task_of(values)
    assert not {"task", *options.TASK_FIELDS} & set(values)
    return result


def test_no_flags_no_task() -> None:
    assert task() is None


def test_a_preset_is_its_name() -> None:
    assert task("--task", "sst2") == "sst2"


def test_flags_describe_local_files() -> None:
    document = task(
        "--kind",
        "text-classification",
        "--train",
        "a.csv",
        "--test",
        "b.csv",
        "--text",
        "x",
        "--text",
        "y",
        "--label",
        "z",
        "--max-length",
        "64",
        "--metric",
        "macro_f1",
        "--metric",
        "accuracy",
    )
    assert document == {
        "kind": "text-classification", "train": "a.csv", "test": "b.csv", "text": ["x", "y"], "label": "z", "max_length": 64,
        "metrics": ["macro_f1", "accuracy"],
    }  # fmt: skip
    assert resolve(document).local_files() == {"train": str(Path("a.csv").absolute()), "test": str(Path("b.csv").absolute())}


def test_the_least_that_describes_a_task() -> None:
    spec = resolve(task("--validation", "a.csv", "--text", "x"))
    assert (spec.label, spec.max_length, spec.metrics, spec.labels) == ("label", 128, ["accuracy"], None)


def test_files_length_and_metrics_adjust_a_preset() -> None:
    spec = resolve(task("--task", "mrpc", "--validation", "a.csv", "--max-length", "32", "--metric", "f1"))
    preset = presets()["mrpc"]
    assert spec.local_files() == {"validation": str(Path("a.csv").absolute())}
    assert (spec.max_length, spec.metrics, spec.hub) == (32, ["f1"], None)
    assert (spec.text, spec.labels, spec.name) == (preset.text, preset.labels, preset.name)
    length = resolve(task("--task", "mrpc", "--max-length", "32"))
    assert length.hub == preset.hub


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "sst2", "--text", "a"], "--text does not go with --task"),
        (["--task", "sst2", "--label", "a"], "--label does not go with --task"),
        (["--task", "sst2", "--kind", "text-classification"], "--kind does not go with --task"),
        (["--text", "a"], "no data file"),
        (["--max-length", "5"], "no data file"),
        (["--test", "a.csv"], "no text column"),
    ],
)
def test_flags_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(*arguments)


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(click.BadParameter, match="'acuracy' is not one of 'accuracy'"):
        task("--test", "a.csv", "--text", "x", "--metric", "acuracy")
    with pytest.raises(RecipeError, match="'spearman' does not measure text-classification"):
        resolve(task("--test", "a.csv", "--text", "x", "--metric", "spearman"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target-speedup", "2", "3", "4.5"], (2.0, 3.0, 4.5)),
        (["--target-speedup", "2", "--target-speedup", "3"], (2.0, 3.0)),
        (["--target-speedup", "2", "3", "--steps", "4", "-o", "x"], (2.0, 3.0)),
    ],
)
def test_numbers_may_follow_one_another(words: list[str], expected: tuple[float, ...]) -> None:
    command = cli.get_command(click.Context(cli), "prune")
    assert command is not None
    found = command.make_context("prune", ["teacher", *words])
    assert found.params["target_speedup"] == expected
    assert found.params["model"] == "teacher"
    assert command.make_context("prune", [*words, "teacher"]).params["model"] == "teacher"


@pytest.mark.parametrize(("words", "expected"), [([], "auto"), (["--steps", "auto"], "auto"), (["--steps", "4"], 4)])
def test_steps_are_a_number_or_auto(words: list[str], expected: int | str) -> None:
    command = cli.get_command(click.Context(cli), "prune")
    assert command is not None
    assert command.make_context("prune", ["teacher", *words]).params["steps"] == expected
    with pytest.raises(click.BadParameter, match="'many' is not a valid integer"):
        command.make_context("prune", ["teacher", "--steps", "many"])
