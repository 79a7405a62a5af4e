"""`eval/` is no installed package: its runner adds its own folder to the path, and so do these tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EVAL = Path(__file__).parents[3] / "eval"
sys.path.insert(0, str(EVAL))


@pytest.fixture
def eval_folder() -> Path:
    return EVAL
