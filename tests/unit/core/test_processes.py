"""Several processes: shards, and what one process does alone. Real ones: `tests/integration/test_several_processes.py`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.cli import main as cli
from compress.core import console, processes


@given(st.integers(1, 40), st.integers(1, 5))
def test_shares_make_up_the_batch(count: int, world: int) -> None:
    positions, shares = np.random.default_rng(0).permutation(count), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "world_size", lambda: world)
        for number in range(world):
            patch.setattr(processes, "rank", lambda number=number: number)
            shares.append(processes.shard(positions))
    assert sorted(np.concatenate(shares).tolist()) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_sent() -> None:
    parameter = nn.Parameter(nn.Linear(2, 2).weight.detach())
    assert (processes.launched(), processes.world_size(), processes.rank(), processes.is_main()) == (1, 1, 0, True)
    assert processes.from_main(lambda: object) is object
    assert processes.all_reduce_gradients([parameter], 0.25, 3) == 0.25
    assert parameter.grad is None
    processes.broadcast([parameter])
    assert processes.run_led(lambda: {"a": 1}, lambda order: None) == {"a": 1}
    with processes.summon({}):
        assert processes.world_size() == 1


def test_a_world_size_alone_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clusters set it for every job."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert processes.launched() == 1


def test_a_muted_process_prints_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    console.configure(json_output=True)
    console.mute()
    console.info("a")
    console.warn("b")
    console.result({"c": 1}, lambda: None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["finetune", "m", "--no-such-option"])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "")
