"""Here XLM-R counts too: it is RoBERTa under another name, which is proven where names matter, and nowhere twice."""

from __future__ import annotations

import pytest

from tests import tiny


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family of the table."""
    return request.param
