"""A run's report: one offline HTML page, and the summary that the command line prints. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.core import files
from compress.core.errors import UsageError
from compress.report.run_folder import Document, read_run
from compress.report.summary import summarize


def write(run_folder: Path) -> Path:
    """Write `report.html` into a finished run folder, atomically; returns its path.

    Raises:
        UsageError: this is not the folder of a finished run.
    """
    from compress.report.page import page

    text = page(read_run(run_folder))
    path = run_folder / "report.html"
    files.write_text(path, text)
    return path


def summary(run_folder: Path) -> list[Document]:
    """Return one row per model that was evaluated or benchmarked, in the order of `bench` and `eval`; see `summarize`.

    Raises:
        UsageError: this is not the folder of a finished run.
    """
    return summarize(read_run(run_folder))


@contextmanager
def of_any_run(run_folder: Path) -> Iterator[None]:
    """Treat documents of a run that a report cannot be created from as damaged: anybody may have edited them.

    A run itself does not use this: what it has just written is not damaged, and a failure is a bug.

    Raises:
        UsageError: the documents are damaged.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise UsageError(
            f"the manifests of {run_folder} cannot be read as those of a run ({reason})", "run the same `compress run` again"
        ) from error
