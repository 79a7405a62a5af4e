"""The command line: help, exit codes, one message, one JSON document."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import compress
from compress import api
from compress.cli.main import GROUPS, VERBS, cli, main
from compress.core import console, errors

Maker = Callable[..., Path]
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    """Put back the handler that `main` replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def call(*arguments: Any) -> int:
    """Run the command line; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def command(verb: str) -> click.Command:
    """Return a verb's command."""
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return found


def leaves() -> Iterator[tuple[str, ...]]:
    """Yield every command, those of groups too."""
    for verb in VERBS:
        found = command(verb)
        yield (verb,)
        if isinstance(found, click.Group):
            yield from ((verb, name) for name in found.commands)


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_says_what_the_verb_says(verb: str) -> None:
    found = command(verb)
    assert found.name == verb
    assert found.short_help == VERBS[verb]
    assert (found.help or "").splitlines()[0] == VERBS[verb]


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: Printed) -> None:
    for flag in ("--help", "-h"):
        assert call(*path, flag) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: compress {' '.join(path)} ")
    assert err == ""


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in {"recipes", "tasks", "doctor"}])
def test_verbs_show_examples_that_parse(verb: str) -> None:
    """Every example of a verb's help is a command line that its options take."""
    found = command(verb)
    examples = re.findall(rf"^\s*(?:cat lines.txt \| )?compress (?:--json )?{verb} (.+)$", found.help or "", re.MULTILINE)
    assert examples
    import shlex

    for example in examples:
        found.make_context(verb, shlex.split(example.partition(" | ")[0]), resilient_parsing=False)


def test_the_groups_help_lists_every_verb(capsys: Printed) -> None:
    assert call("--help") == 0
    out = capsys.readouterr().out
    for verb, text in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(text.split()[0])}", out, re.MULTILINE)
        assert text in " ".join(out.split())
    assert [line.removesuffix(":") for line in out.splitlines() if line.removesuffix(":") in GROUPS] == list(GROUPS)
    for code in ("0 success", "2 usage", "3 recipe", "4 model or data", "5 resources", "6 missed gate", "7 diverged training", "75", "130"):
        assert code in " ".join(out.split())


def test_version(capsys: Printed) -> None:
    assert call("--version") == 0
    assert compress.__version__ in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    """Neither the help of the command nor that of any verb waits for torch."""
    code = (
        "import sys\n"
        "from compress.cli.main import GROUPS, VERBS, cli, main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "verbs = [name for name in sys.modules if name.startswith('compress.cli.') and name[13:] not in ('main', 'signals')]\n"
        "for verb in VERBS:\n"
        "    try:\n        main([verb, '--help'])\n    except SystemExit:\n        pass\n"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'pandas', 'scipy', 'sklearn', 'plotly', 'huggingface_hub'}\n"
        "print(verbs, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr.strip() == "[] []"


def test_the_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "compress", "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert compress.__version__ in done.stdout


def one_message(printed: Any) -> str:
    """Check that stderr holds one clear error and no traceback; returns it."""
    assert "Traceback" not in printed.err
    assert len(re.findall(r"^error: ", printed.err, re.MULTILINE)) == 1
    return printed.err


FAILURES: list[tuple[int, list[str], str]] = [
    (2, ["prun"], "no such command 'prun' (did you mean 'prune'?)"),
    (2, ["nothing"], "no such command 'nothing'"),
    (2, ["--jsn"], "no such option"),
    (2, ["export"], "missing argument 'MODEL'"),
    (2, ["export", "{model}"], "missing option '-o'"),
    (2, ["export", "{model}", "-o", "x", "--toleranc", "1"], "--tolerance"),
    (2, ["export", "{model}", "-o", "x", "--tolerance", "much"], "not a valid float"),
    (2, ["export", "{model}", "-o", "x", "--tolerance", "-1"], "tolerance: should be greater than 0"),
    (2, ["export", "{model}", "-o", "{model}/inside"], "lies inside the input"),
    (2, ["finetune", "{model}", "-o", "x", "--task", "tiny.yaml", "--epochs", "0"], "epochs: should be greater than or equal to 1"),
    (2, ["finetune", "{model}", "-o", "x"], "finetune needs a task"),
    (2, ["eval", "{model}"], "eval needs a task"),
    (2, ["eval"], "missing argument"),
    (2, ["eval", "{model}", "{model}", "--task", "tiny.yaml"], "the same model was given twice"),
    (2, ["eval", "{model}", "--task", "sst2", "--text", "a"], "--text does not go with --task"),
    (2, ["eval", "{model}", "--text", "a"], "no data file was given"),
    (2, ["eval", "{model}", "--test", "a.csv"], "no text column was given"),
    (2, ["prune", "{model}", "-o", "x", "--task", "tiny.yaml"], "exactly one target"),
    (
        2,
        ["prune", "{model}", "-o", "x", "--task", "tiny.yaml", "--target-flops", "0.5", "--uniform", "--method", "taylor"],
        "--uniform goes with --method obs",
    ),
    (2, ["prune", "{model}", "-o", "x", "--task", "tiny.yaml", "--target-flops", "1.5"], "--target-flops: should be less than 1"),
    (2, ["bench", "{model}", "--threads", "0"], "bench: --threads: should be"),
    (2, ["bench", "{model}", "--rounds", "1"], "rounds"),
    (2, ["bench", "{model}", "--runtime", "openvin"], "(did you mean 'openvino'?)"),
    (2, ["distill", "{model}", "student"], "the teacher and the student are options"),
    (2, ["predict", "{model}", "--pair", "one"], "--pair takes two texts, not 1"),
    (2, ["report", "{model}"], "not a finished run folder"),
    (3, ["run", "missing.yaml"], "there is no recipe file missing.yaml"),
    (3, ["run", "dmo"], "did you mean 'demo'"),
    (3, ["run", "broken.yaml"], "broken.yaml"),
    (3, ["run", "demo", "--set", "studnet.epochs=5"], "did you mean 'student'"),
    (3, ["recipes", "show", "dmo"], "did you mean 'demo'"),
    (3, ["eval", "{model}", "--task", "sst"], "unknown task 'sst' (did you mean 'sst2'?)"),
    (3, ["eval", "{model}", "--task", "missing.yaml"], "cannot read"),
    (4, ["export", "nowhere", "-o", "x"], "there is no model folder nowhere"),
    (4, ["export", "tiny.yaml", "-o", "x"], "is a file"),
    (4, ["export", "builtin:nothing", "-o", "x"], "unknown builtin"),
    (4, ["predict", "nowhere", "a text"], "there is no model folder"),
    (4, ["eval", "{model}", "--test", "missing.csv", "--text", "a"], "there is no file"),
    (5, ["--offline", "export", "owner/not-cached", "-o", "x"], "offline, and the model owner/not-cached is not in the cache"),
    (5, ["predict", "{model}", "--device", "cuda", "a text"], "--device cuda"),
]


@pytest.mark.parametrize(("code", "arguments", "message"), FAILURES, ids=[" ".join(arguments) for _, arguments, _ in FAILURES])
def test_failures_are_one_message_and_a_code(
    code: int,
    arguments: list[str],
    message: str,
    checkpoint: Maker,
    tiny_task: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cold"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_task), encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("a:\n\t- 1\n", encoding="utf-8")
    arguments = [argument.format(model=checkpoint()) for argument in arguments]
    assert call(*arguments) == code
    plain = capsys.readouterr()
    assert message in one_message(plain)
    assert call("--json", *arguments) == code
    printed = capsys.readouterr()
    one_message(printed)
    document = json.loads(printed.out)
    assert set(document) == {"error", "hint", "exit_code"}
    assert document["exit_code"] == code
    assert message in document["error"] + str(document["hint"])
    assert {path.name for path in tmp_path.iterdir()} <= {"tiny.yaml", "broken.yaml", "cold"}  # nothing half-made is left


CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.CompressError)]
CLASSES.remove(errors.PointsFailed)  # has the code of the first point that failed: see test_sweep


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_class_has_its_code(error: type[errors.CompressError], monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error("what and where", "what to type")

    monkeypatch.setattr(api, "bench", fail)
    assert call("--json", "bench", "x") == error.exit_code
    printed = capsys.readouterr()
    assert printed.err == "error: what and where\n  try: what to type\n"
    assert json.loads(printed.out) == {"error": "what and where", "hint": "what to type", "exit_code": error.exit_code}


def test_the_codes_are_the_documented_ones() -> None:
    found = {error.__name__: error.exit_code for error in CLASSES}
    assert found == {
        "CompressError": 1, "UsageError": 2, "RecipeError": 3, "ModelError": 4, "DataError": 4, "ResourceError": 5, "GateMissed": 6,
        "Diverged": 7, "Locked": 75,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyError("x"), 1, "this is a bug in compress: KeyError: 'x'"),
        (RuntimeError("boom"), 1, "this is a bug in compress: RuntimeError: boom"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "/x/y"), 5, "No space left on device: /x/y"),
        (PermissionError(13, "Permission denied", "/x"), 5, "Permission denied: /x"),
        (SystemExit(143), 143, "terminated"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_other_ends(error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(api, "bench", fail)
    assert call("--json", "bench", "x") == code
    printed = capsys.readouterr()
    assert f"error: {message}" in one_message(printed)
    assert json.loads(printed.out)["exit_code"] == code


def test_tracebacks_only_with_debug(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise errors.ModelError("broken")

    monkeypatch.setattr(api, "bench", fail)
    assert call("bench", "x") == 4
    assert "Traceback" not in capsys.readouterr().err
    assert call("--debug", "bench", "x") == 4
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "error: broken" in printed


def test_an_error_of_a_full_disk_is_told_as_such_whoever_raised_it(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise Exception('Error while serializing: IoError(Os { code: 28, message: "No space left on device" }) (os error 28)')

    monkeypatch.setattr(api, "bench", fail)
    assert call("bench", "x") == 5
    assert "free some disk space" in capsys.readouterr().err


def test_a_closed_pipe_ends_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "compress", "tasks", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_locale_without_utf8_prints_all_the_same(tmp_path: Path) -> None:
    recipe = tmp_path / "é.yaml"
    recipe.write_text("schema: 1\nname: é\n", encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "compress", "recipes", "show", str(recipe)], capture_output=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "name: é" in done.stdout.decode("utf-8")


def test_flags_set_the_process_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.core import hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    call("--json", "--quiet", "--debug", "--offline", "tasks", "list")
    assert (console._state.json, console._state.logs, console._state.debug) == (True, False, True)
    assert hub.is_offline()


def test_help_of_a_missing_verb_is_usage(capsys: Printed) -> None:
    assert call() == 2
    assert "Usage: compress" in "".join(capsys.readouterr())


def test_a_verb_knows_its_short_help_whoever_asks_first() -> None:
    """Click keeps the help option of a command's first context, so that must not depend on a parent."""
    found = cli.get_command(click.Context(cli), "report")
    assert found is not None
    assert found.make_context("report", ["run"], resilient_parsing=True).help_option_names == ["-h", "--help"]
