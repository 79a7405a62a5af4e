"""A fake tool for the real worker: module `fake_tool`, written where a test wants it."""

from __future__ import annotations

TOOL = """
import json, os, sys, time
import numpy as np

def build(variant, teacher, output, calibration):
    print("a library prints on stdout")
    if variant == "broken":
        raise RuntimeError("no such operator\\nsecond line")
    (output / "model.json").write_text(json.dumps({"texts": len(calibration), "teacher": teacher.name}))

def open_model(variant, folder, threads):
    if variant == "unloadable":
        raise ImportError("no module named tool")
    config = folder / "config.json"
    labels = len(json.loads(config.read_text())["id2label"]) if config.exists() else 2
    calls = []
    def forward(batch):
        calls.append(batch["input_ids"].shape)
        if variant == "dies" and len(calls) > 3:
            os._exit(9)
        if variant == "hangs" and len(calls) > 3:
            time.sleep(60)
        if variant == "fails" and len(calls) > 3:
            raise ValueError("out of memory")
        if variant == "slow":
            time.sleep(0.02)
        print("noise")
        columns = [batch["input_ids"].sum(1), batch["attention_mask"].sum(1), batch["attention_mask"].sum(1)]
        return np.stack(columns[:labels], axis=1)
    return forward, {"threads": threads}
"""
