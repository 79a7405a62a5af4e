"""The command `compress`: global flags, verbs imported only when called, and one place that maps errors to exit codes."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Mapping

import click
import cloup
from cloup.formatting import HelpSection, ensure_is_cloup_formatter

from compress.cli import signals
from compress.core import console, hub, processes, scratch, system_errors
from compress.core.errors import CompressError, ResourceError, did_you_mean
from compress.core.version import __version__

# The verbs with their one-line help, so that `compress --help` imports none of them. A test compares it with the verbs' own.
GROUPS = {
    "Start here": {
        "auto": "Find the best model for an accuracy budget or a latency, and prove it.",
    },
    "Train and make smaller": {
        "finetune": "Train a pre-trained encoder on a task.",
        "prune": "Remove attention heads and FFN neurons; or layers, hidden dimensions, tokens, weights.",
        "factorize": "Replace linears and token embeddings by low-rank factors.",
        "share": "Let groups of layers share one copy of the weights.",
        "distill": "Train a small student on its teacher's outputs.",
        "export": "Write a verified ONNX artifact.",
        "quantize": "Write an int8 ONNX artifact (or int4, fp16, bf16).",
    },
    "Measure": {
        "eval": "Measure accuracy with confidence intervals, paired against the first model.",
        "bench": "Measure latency, throughput, memory and size, interleaved.",
    },
    "Run": {
        "run": "Run a whole recipe; resumes where it stopped.",
        "sweep": "Run a recipe for a grid of values and several seeds; one table and report.",
        "predict": "Label, tag, answer, encode or score texts with a model.",
    },
    "Look": {
        "report": "Write a run's HTML report again and print its table.",
        "recipes": "List, show or copy the ready recipes.",
        "tasks": "List the task presets.",
        "doctor": "Show what this machine has, what is missing and how to install it.",
    },
}
VERBS = {verb: text for verbs in GROUPS.values() for verb, text in verbs.items()}
MODULES = {"eval": "evaluate"}  # of verbs whose module has another name
HELP = """Make BERT encoders small and fast: prune, distill, quantize, export, and measure the result.

\b
Start here:
  compress doctor                    what this machine has
  compress run demo                  all stages on BBC News, in minutes
  compress recipes list              ready pipelines
  compress finetune --help           options and examples of a verb

\b
MODEL is a folder in Hugging Face layout, a hub id (owner/name, optional @revision),
an ONNX artifact folder, or builtin:minilm-l6.

\b
Exit codes: 0 success, 1 a bug in compress, 2 usage, 3 recipe or task file, 4 model or data,
5 resources, 6 missed gate, 7 diverged training, 75 locked folder, 130/143/141 signals.
"""

SETTINGS: dict[str, object] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ClosedPipe(Exception):
    """The reader of our output has closed it, as in `| head`."""


class LazyGroup(cloup.Group):
    """A group whose commands are imported when they are called."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; click itself would turn a closed pipe into exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedPipe from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module, `compress.cli.VERB`, and return its `VERB_command`."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"compress.cli.{MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        # Also on the verb itself: click keeps the help option of the first context that a command gets, whatever its parent.
        command.context_settings = {**SETTINGS, **command.context_settings}
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb for an unknown one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"no such command '{args[0]}'{did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by group without importing them."""
        ensure_is_cloup_formatter(formatter).write_many_sections(
            [HelpSection(title, list(verbs.items())) for title, verbs in GROUPS.items()]
        )


@cloup.group(cls=LazyGroup, help=HELP, context_settings=SETTINGS)
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document on stdout; logs go to stderr.")
@click.option("--quiet", is_flag=True, help="Print results, warnings and errors only.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--offline", is_flag=True, help="Never use the network: hub models and data come from the cache only.")
@click.version_option(__version__, prog_name="compress")
def cli(json_output: bool, quiet: bool, debug: bool, offline: bool) -> None:
    """Configure output and network access for the verb."""
    scratch.adopt()
    console.configure(json_output=json_output, quiet=quiet, debug=debug)
    if not processes.is_main():
        console.mute()
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    hub.set_offline(offline)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented exit code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a replaced stream without an encoding
            stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    json_output = "--json" in (sys.argv[1:] if arguments is None else arguments)
    signals.install(json_output)
    code = _run(arguments, json_output)
    signals.disarm()
    processes.exit_process(code)
    sys.exit(code)


def _run(arguments: list[str] | None, json_output: bool) -> int:
    """Run the group; returns the exit code."""
    document: Mapping[str, object] | None = None
    try:
        return _invoke(arguments, json_output)
    except SystemExit as stop:
        code = int(stop.code or 0)
    except (KeyboardInterrupt, click.Abort) as stop:  # click raises its own error from the interrupt
        code, document = 130, getattr(stop.__cause__, "document", None)
    except Exception as error:
        code = signals.stopped()
        if code is None:
            return _failed(error, json_output)
    return _fail(json_output, signals.name_of(code), signals.AGAIN, code, document=document) if code in (130, 143) else code


def _invoke(arguments: list[str] | None, json_output: bool) -> int:
    try:
        cli.main(args=arguments, prog_name="compress", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):  # no arguments: the help is the message
            if processes.is_main():
                error.show()
            return _fail(json_output, "no command was given", None, 2, shown=True)
        message, hint = _usage(error)
        return _fail(json_output, message, hint, 2, shown=not processes.is_main())
    except (BrokenPipeError, ClosedPipe):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _usage(error: click.ClickException) -> tuple[str, str]:
    """Return the message and the hint of an error in the arguments."""
    message = error.format_message().rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None and isinstance(error.param.type, click.Choice):
        given = re.search(r"'([^']*)' is not one of", message)
        message += did_you_mean(given[1], map(str, error.param.type.choices)) if given else ""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "compress"
    return message[:1].lower() + message[1:], f"'{path} --help' shows the options and examples"


def _failed(error: Exception, json_output: bool) -> int:
    """Print what failed; returns the exit code."""
    error = system_errors.typed(error) or error
    if isinstance(error, CompressError):
        return _fail(json_output, error.message, error.hint, error.exit_code, document=getattr(error, "document", {}))
    if isinstance(error, subprocess.TimeoutExpired):
        return _fail(json_output, f"resources are exhausted: {error}", "try again when the machine is idle", ResourceError.exit_code)
    if isinstance(error, OSError):
        message = (error.strerror or str(error)) + (f": {error.filename}" if error.filename else "")
        return _fail(json_output, message, "check free disk space and the permissions of the folder", ResourceError.exit_code)
    hint = "run again with --debug for the traceback, and please report it"
    return _fail(json_output, f"this is a bug in compress: {type(error).__name__}: {error}", hint, 1)


def _fail(
    json_output: bool, message: str, hint: str | None, code: int, shown: bool = False, document: Mapping[str, object] | None = None
) -> int:
    """Print an error on stderr, and with `--json` as the one JSON document; returns the exit code."""
    with contextlib.suppress(OSError, ValueError):  # the stream is full or closed: the exit code still tells
        _print_failure(json_output, message, hint, code, shown, document)
    return code


def _print_failure(
    json_output: bool, message: str, hint: str | None, code: int, shown: bool, document: Mapping[str, object] | None
) -> None:
    if console.debugging() and sys.exc_info()[0] is not None:
        traceback.print_exc()
    if not processes.is_main():  # the first process prints what they share
        if not shown and code < 128:  # the launcher stops the other processes after a failure
            print(f"process {os.environ['RANK']}: {message}", file=sys.stderr)
        return
    if not shown:
        print(f"error: {message}", file=sys.stderr)
        if hint:
            print(f"  try: {hint}", file=sys.stderr)
    if json_output:
        failure = {**(document or {}), "error": message, "hint": hint, "exit_code": code}
        print(json.dumps(console.finite(failure), ensure_ascii=False), flush=True)
