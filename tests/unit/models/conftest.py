"""Here XLM-R and MPNet count too: RoBERTa under another name, or with one bias more, proven where that matters, and nowhere twice."""

from __future__ import annotations

import pytest

from tests import tiny


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family of the table."""
    return request.param
