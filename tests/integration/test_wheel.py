"""The wheel: one top-level import, recipes and presets inside."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_wheel_holds_the_package_its_recipes_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"compress"}
    assert "compress/recipes/demo.yaml" in names
    assert "compress/data/presets.yaml" in names
    assert "compress/py.typed" in names
    target = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(target)
    listed = subprocess.run(
        [sys.executable, "-m", "compress", "recipes", "list"],
        cwd=target,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(target)},
    )
    assert "demo" in listed.stdout
