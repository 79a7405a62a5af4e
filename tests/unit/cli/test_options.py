"""Options created from settings: defaults, sections, several numbers."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import click
import pytest
from click.testing import CliRunner

from compress.cli import options
from compress.cli.main import cli
from compress.core.errors import UsageError
from compress.recipe.verbs import VERBS
from compress.settings import BenchSettings, FinetuneSettings
from compress.settings.base import SECTIONS


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
    with context:
        assert settings.model_validate(options.given(settings, context.params)) == expected
        assert set(options.given(settings, context.params)) == set(fields)


def test_values_reach_the_settings() -> None:
    found = cli.get_command(click.Context(cli), "finetune")
    assert found is not None
    context = found.make_context("finetune", ["m", "-o", "x", "--epochs", "7", "--lr", "1e-5", "--freeze-embeddings", "--patience", "2"])
    with context:
        settings = FinetuneSettings.model_validate(options.given(FinetuneSettings, context.params))
    assert (settings.epochs, settings.lr, settings.freeze_embeddings, settings.patience) == (7, 1e-5, True, 2)
    context = cli.get_command(click.Context(cli), "bench").make_context("bench", ["m", "--threads", "1", "--threads", "4", "--no-memory"])  # type: ignore[union-attr]
    with context:
        bench = BenchSettings.model_validate(options.given(BenchSettings, context.params))
    assert (bench.threads, bench.memory, bench.seq_len) == ([1, 4], False, [32, 128])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target-speedup", "2", "3", "4.5"], (2.0, 3.0, 4.5)),
        (["--target-speedup", "2", "--target-speedup", "3"], (2.0, 3.0)),
        (["--target-speedup", "2", "3", "--steps", "4", "-o", "x"], (2.0, 3.0)),
        (["--target-speedup=2", "3", "-o", "x"], (2.0, 3.0)),
        (["-o", "x", "--target-speedup", "2"], (2.0,)),
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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--threads 1 2 model", "--threads 1 --threads 2 model"),
        ("--threads=1 2", "--threads=1 --threads 2"),
        ("--threads 1 --other 2 3", "--threads 1 --other 2 3"),
        ("--threads 1 -- 2", "--threads 1 -- 2"),
        ("--threads auto 2", "--threads auto 2"),
        ("1 2 --threads", "1 2 --threads"),
    ],
)
def test_numbers_are_given_to_their_option(words: str, expected: str) -> None:
    assert options.repeated(words.split(), {"--threads"}) == expected.split()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_page_has_sections_in_one_order(verb: str) -> None:
    page = CliRunner().invoke(cli, [verb, "--help"], terminal_width=100).output
    titles = [line.removesuffix(":").partition(" (")[0] for line in page.splitlines() if line.endswith(":") and not line.startswith(" ")]
    known = [section.title for section in SECTIONS]
    assert titles[-1] == "Other options"  # --help
    assert len(titles) > 2
    assert [known.index(title) for title in titles[:-1]] == sorted(known.index(title) for title in titles[:-1])


def test_a_setting_that_the_method_ignores_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["prune", "teacher", "--task", "sst2", "--method", "sparse", "--recover-epochs", "3", "-o", "x"])
    assert isinstance(result.exception, UsageError)
    methods = "obs, fisher, taylor, magnitude, random, layers or hidden"
    assert f"--recover-epochs goes with --method {methods}, not sparse" in str(result.exception)
