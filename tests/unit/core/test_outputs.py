"""Which output folders are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.core import artifacts, outputs
from compress.core.errors import UsageError


@pytest.mark.parametrize("place", ["source", "source/inside", "source/deep/inside", "./source", "elsewhere/../source/x"])
def test_output_inside_an_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "source").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="lies inside the input") as caught:
        outputs.check_output(Path(place), [Path("source")])
    assert caught.value.exit_code == 2


def test_output_inside_an_input_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "source")
    with pytest.raises(UsageError, match="lies inside"):
        outputs.check_output(tmp_path / "link" / "out", [tmp_path / "source"])


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        outputs.check_output(tmp_path / "file", [])


def test_output_that_holds_an_input_is_refused_if_it_would_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "out" / "source").mkdir(parents=True)
    outputs.check_output(tmp_path / "out", [tmp_path / "out" / "source"])  # refused later: it is not empty
    (tmp_path / "out" / artifacts.MANIFEST).write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="holds the input"):
        outputs.check_output(tmp_path / "out", [tmp_path / "out" / "source"])


@pytest.mark.parametrize("place", ["out", "source-2", "sour", "runs/source"])
def test_output_beside_the_inputs_is_fine(tmp_path: Path, place: str) -> None:
    (tmp_path / "source").mkdir()
    outputs.check_output(tmp_path / place, [tmp_path / "source"])


def test_remains_of_killed_runs_beside_a_finished_output_are_removed(tmp_path: Path) -> None:
    for name in ("out", ".out.tmp-1", ".out.old-1", ".out.resume-abc", ".other.tmp-1"):
        (tmp_path / name / "inside").mkdir(parents=True)
    outputs.clean_up(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.tmp-1", "out"]


def test_a_name_that_no_folder_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        outputs.nameable(Path("a\0b"))


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        ([], False),
        (["mark"], False),
        (["mark", "other"], False),
        ([".mark.tmp-7"], False),
        (["other"], True),
        ([".mark.tmp-7", "other"], True),
    ],
    ids=str,
)
def test_a_folder_that_something_else_wrote_is_refused(tmp_path: Path, names: list[str], refused: bool) -> None:
    outputs.check_content(tmp_path / "missing", ["mark"], "is not ours")
    for name in names:
        (tmp_path / name).touch()
    if not refused:
        outputs.check_content(tmp_path, ["another", "mark"], "is not ours")
        return
    with pytest.raises(UsageError, match="is not empty and is not ours"):
        outputs.check_content(tmp_path, ["another", "mark"], "is not ours")


def test_a_file_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    outputs.check_output_file(tmp_path / "new.npy")
    (tmp_path / "old.npy").touch()
    outputs.check_output_file(tmp_path / "old.npy")
    for path in (tmp_path, tmp_path / "nowhere" / "a.npy"):
        with pytest.raises(UsageError, match="cannot be written"):
            outputs.check_output_file(path)
    error = outputs.unwritable(tmp_path / "a.npy", OSError(30, "Read-only file system"))
    assert error.message.endswith("a.npy cannot be written: Read-only file system")
