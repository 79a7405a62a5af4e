"""The documents that verbs return, write into manifests and print with `--json`: one type for each verb.

A stage returns the document of its verb (`PruneDocument`, …). The manifest of its folder holds the keys of `Manifest` and
those of the document. `docs/json.md` lists all keys from here.
"""

from __future__ import annotations

from compress.results.checkpoints import (
    DistillPlan,
    FactorizeDocument,
    PruneDocument,
    PrunePlan,
    ShareDocument,
    TrainedDocument,
    TrainingDocument,
)
from compress.results.graphs import ExportDocument, QuantizeDocument, RuntimeHints, TuningDocument, VerificationDocument
from compress.results.measurements import BenchDocument, EvalDocument
from compress.results.runs import GateDocument, Manifest, RunDocument, StageManifest
from compress.results.sweeps import SweepDocument
from compress.results.values import Interval, LayerDocument, Metrics, Ratio, Speedup

__all__ = [
    "BenchDocument",
    "DistillPlan",
    "EvalDocument",
    "ExportDocument",
    "FactorizeDocument",
    "GateDocument",
    "Interval",
    "LayerDocument",
    "Manifest",
    "Metrics",
    "PruneDocument",
    "PrunePlan",
    "QuantizeDocument",
    "Ratio",
    "RunDocument",
    "RuntimeHints",
    "ShareDocument",
    "Speedup",
    "StageManifest",
    "SweepDocument",
    "TrainedDocument",
    "TrainingDocument",
    "TuningDocument",
    "VerificationDocument",
]
