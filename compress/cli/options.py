"""Command-line options created from a verb's settings, and the command class that shows them in sections."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import cloup
from click.core import ParameterSource

from compress.core.errors import UsageError
from compress.settings import Settings
from compress.settings.base import SECTIONS, Section, flag, help_of, section_of

Decorated = Callable[..., object] | click.Command
Decorator = Callable[[Decorated], Decorated]
METAVARS = {"unlabeled": "FILE", "augment_model": "MODEL", "tokens": "off|auto|SHARES"}
NUMBER = re.compile(r"\d+(\.\d+)?")


class SectionOption(cloup.Option):
    """An option in a section of the help page.

    Args:
        section: where it stands.
        several: whether further numbers may follow the first one, as in `--threads 1 2`.
        condition: when it may be given; the help states it at the option, or once for a section whose options all share it.
        shown_default: the end of its help.
    """

    def __init__(
        self, param_decls: Sequence[str], *, section: Section, several: bool = False, condition: str = "", shown_default: str = "",
        **attributes: Any,
    ) -> None:  # fmt: skip
        super().__init__(param_decls, **attributes)
        self.section, self.several, self.condition, self.shown_default = section, several, condition, shown_default


class SectionCommand(cloup.Command):
    """A command whose help page lists its options in sections, in the order of `SECTIONS`."""

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **attributes: Any) -> None:
        params = params or []
        options = [param for param in params if isinstance(param, SectionOption)]
        for section in SECTIONS:
            members = [option for option in options if option.section == section]
            conditions = {option.condition for option in members}
            shared = conditions.pop() if len(members) > 1 and len(conditions) == 1 else ""
            group = cloup.OptionGroup(f"{section.title} ({shared})" if shared else section.title)
            for option in members:
                option.group = group
                condition = f" ({option.condition})" if option.condition and not shared else ""
                option.help = f"{option.help or ''}{condition}{option.shown_default}"
        options.sort(key=lambda option: SECTIONS.index(option.section))
        others = [param for param in params if not isinstance(param, SectionOption)]
        super().__init__(name, params=[*others, *options], **attributes)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with `--threads 1 2` read as `--threads 1 --threads 2`."""
        several = {name for param in self.params if isinstance(param, SectionOption) and param.several for name in param.opts}
        return super().parse_args(ctx, repeated(args, several))

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; an error in its settings names options."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            prefix = f"{self.name}: "
            if not error.message.startswith(prefix):
                raise
            names = [param.name for param in self.params if isinstance(param, SectionOption) and param.name]
            message = as_options(error.message.removeprefix(prefix), names)
            raise UsageError(prefix + message, error.hint or f"'compress {self.name} --help' lists the options and their values") from error


def as_options(message: str, names: Sequence[str]) -> str:
    """Return a message about settings with the options of these names.

    >>> as_options("target_speedup.0: should be greater than 1, not 0.5", ["target_speedup"])
    '--target-speedup: should be greater than 1, not 0.5'
    >>> as_options("steps goes with method obs or fisher, not taylor", ["steps", "method"])
    '--steps goes with --method obs or fisher, not taylor'
    """
    message = re.sub(r"\w+ \((--[-\w]+) on the command line\)", r"\1", message)
    long = "|".join(re.escape(name) for name in names if "_" in name)
    every = "|".join(map(re.escape, names))
    if long:
        message = re.sub(rf"(?<![-\w])({long})\b(?:\.\d+)*", lambda match: flag(match[1]), message)
    before = rf"(?m)(^(?:  - )?)({every})\b(?:\.\d+)*(?=: | goes with | does not go with )"
    message = re.sub(before, lambda match: match[1] + flag(match[2]), message)
    return re.sub(rf"( go(?:es)? with |, or with )({every})\b", lambda match: match[1] + flag(match[2]), message)


def repeated(args: Sequence[str], several: set[str]) -> list[str]:
    """Return the arguments with an option of several numbers repeated before each of them.

    >>> repeated(["--threads", "1", "2", "model"], {"--threads"})
    ['--threads', '1', '--threads', '2', 'model']
    """
    result: list[str] = []
    name, has_value = "", False  # the option that takes the next number, and whether it has a value yet
    for position, argument in enumerate(args):
        if argument == "--":
            return [*result, *args[position:]]
        if argument.startswith("-"):
            option, equals, _ = argument.partition("=")
            name = option if option in several else ""
            has_value = bool(equals)
        elif name and NUMBER.fullmatch(argument):
            if has_value:
                result.append(name)
            has_value = True
        else:
            name = ""
        result.append(argument)
    return result


def option(*names: str, section: Section, **attributes: Any) -> Decorator:
    """Add an option to a section of the help page; further arguments are those of `click.option`."""
    return click.option(*names, cls=SectionOption, section=section, **attributes)


def settings_options(model: type[Settings], skip: tuple[str, ...] = ()) -> Decorator:
    """Add one option per field of `model`: `target_flops` becomes `--target-flops`, with its default, description and section."""

    def decorate(function: Decorated) -> Decorated:
        for name in reversed(model.model_fields):
            if name not in skip:
                function = _option(model, name)(function)
        return function

    return decorate


def _option(model: type[Settings], name: str) -> Decorator:
    """Return the option of a field."""
    field, condition = model.model_fields[name], help_of(model, name)
    kind, default = _bare(field.annotation), field.default
    attributes: dict[str, object] = {"condition": condition}
    several, shown = "", ""
    if get_origin(kind) is list:
        item = _bare(get_args(kind)[0])
        numbers = item in (int, float)
        several = " Several: list them." if numbers else " Several: repeat the option."
        shown = f"  [default: {' '.join(map(str, default))}]" if default else ""
        attributes |= {"type": _click_type(item), "multiple": True, "several": numbers}
    else:
        attributes |= {"default": default, "show_default": default is not None} | ({} if kind is bool else {"type": _click_type(kind)})
    names = f"{flag(name)}/--no-{flag(name).removeprefix('--')}" if kind is bool else flag(name)
    if isinstance(attributes.get("type"), NumberOrAuto):
        attributes["metavar"] = "N|auto"
    if name in METAVARS:
        attributes["metavar"] = METAVARS[name]
    return option(names, name, section=section_of(field), help=f"{field.description}{several}", shown_default=shown, **attributes)


class NumberOrAuto(click.ParamType):
    """A whole number, or `auto`."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or `auto` unchanged."""
        return value if value == "auto" else click.INT.convert(value, param, ctx)


def _click_type(kind: object) -> object:
    if get_origin(kind) is Literal:
        return click.Choice(list(get_args(kind)))
    return NumberOrAuto() if set(get_args(kind)) == {int, Literal["auto"]} else kind


def _bare(annotation: object) -> object:
    """Strip `Annotated` and `| None` off an annotation."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_bare(part) for part in get_args(annotation) if part is not type(None)]
        return Union[tuple(parts)]  # noqa: UP007 (a union of one part is that part)
    return annotation


def given(model: type[Settings], values: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings that the user gave to the current command, as a stage's fields; defaults are left to `model`."""
    context = click.get_current_context()
    fields: dict[str, object] = {}
    for name in model.model_fields:
        if name in values and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            value = values[name]
            fields[name] = list(value) if isinstance(value, tuple) else value
    return fields
