"""A run's report: one offline HTML page, and the summary that the command line prints. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from compress.core import files
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
