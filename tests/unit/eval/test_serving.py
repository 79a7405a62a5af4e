"""What serving costs beyond the runtime."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import serving

from tests.unit.inference.test_serving import make_artifact

RUNTIMES = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_table_is_measured(runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = make_artifact(tmp_path), tmp_path / "out.json"
    options = ["--seconds", "0.01", "--rounds", "3", "--seq-len", "8", "--threads", "2", "--streams", "2"]
    assert serving.main([str(folder), *options, "--runtime", runtime, "-o", str(output)]) == 0
    rows = {row["table"]: row for row in json.loads(output.read_text(encoding="utf-8"))["rows"]}
    assert set(rows) == {"overhead", "throughput", "parallel"}  # the artifact has no canaries
    assert rows["overhead"]["tokens"] <= 8
    assert rows["overhead"]["run_us"] > 0
    assert rows["throughput"]["list_per_s"] > 0
    assert rows["parallel"]["streams_speedup"] > 0
    assert "share" in capsys.readouterr().out
