"""Choosing a device."""

from __future__ import annotations

import pytest
import torch

from compress.models.device import pick_device


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected"), [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda")]
)
def test_devices(name: str, has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert pick_device(name).type == expected
