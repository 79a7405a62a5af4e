"""Digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from compress.core import digests


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digests.digest_file(tmp_path / "a") == digests.digest_bytes(b"abc") == published


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text(), max_size=5))
def test_digest_of_json_ignores_the_order_of_keys(document: dict[str, Any]) -> None:
    assert digests.digest_json(document) == digests.digest_json(dict(reversed(document.items())))
