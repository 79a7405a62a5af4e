"""Short fits of heads."""

from __future__ import annotations

import pytest

from compress.prune import head_refit


@pytest.fixture(autouse=True)
def _short_fits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit heads in a few iterations, but where fits are tested: at every step of every pruning they took a third of its time."""
    if "refit" not in request.module.__name__:
        monkeypatch.setattr(head_refit, "RIDGES", (1e-3,))
        monkeypatch.setattr(head_refit, "ITERATIONS", 5)
