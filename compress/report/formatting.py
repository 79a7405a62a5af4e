"""Numbers, intervals, names of metrics, runtimes and cells as text."""

from __future__ import annotations

from compress.report.entries import has_own_lengths, is_interval
from compress.report.run_folder import Document

RUNTIMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "onnxruntime+openvino": "ONNX Runtime + OpenVINO"}
METRIC_NAMES = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "entity_f1": "entity F1",
    "word_f1": "word F1",
    "exact_match": "exact match",
    "squad_f1": "SQuAD F1",
    "ndcg@10": "nDCG@10",
    "mrr@10": "MRR@10",
    "map": "MAP",
    "gap_f1": "GAP F1",
    "gap_f1_masculine": "GAP F1, masculine",
    "gap_f1_feminine": "GAP F1, feminine",
    "gap_bias": "GAP bias",
}
TIMES_100 = {"matthews", "pearson", "spearman", "gap_bias"}  # correlations and ratios: no share of anything


def metric_name(name: str) -> str:
    """Return a metric's name as text: `macro F1`."""
    return METRIC_NAMES.get(name, name.replace("_", " "))


def metric_axis(name: str) -> str:
    """Return the title of a metric's axis: 0 to 100 points, or a correlation or a ratio × 100."""
    return f"{metric_name(name)} × 100" if name in TIMES_100 else f"{metric_name(name)}, 0 to 100 points"


def points_name(name: str) -> str:
    """Return the unit of a change: `points of accuracy`."""
    return f"points of {metric_name(name)}{' (× 100)' if name in TIMES_100 else ''}"


def capitalized(text: str) -> str:
    """Return the text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Format a number with a typographic minus sign; None and NaN become a dash."""
    if value is None or value != value:
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def times_100(value: float | None) -> float | None:
    """Return a share as points, 0 to 100."""
    return None if value is None else 100 * value


def interval_text(bounds: object, digits: int = 2, scale: float = 1, signed: bool = False) -> str:
    """Format an interval as `a to b`; an empty text if there is none."""
    if not is_interval(bounds):
        return ""
    return " to ".join(number(scale * bound, digits, signed) for bound in bounds)


def p_value(value: float | None) -> str:
    """Format a p value: `0.60`, `0.032`, `< 0.001`."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def length_text(entry: Document) -> str:
    """Format the length of a benchmark's entry: `32`, or `task's own (mean 41)`."""
    return f"task's own (mean {entry.get('seq_len', '–')})" if has_own_lengths(entry) else str(entry.get("seq_len", "–"))


def runtime_text(row: Document) -> str:
    """Return runtime and precision of a model: `PyTorch fp32`."""
    runtime = row.get("runtime")
    return " ".join(str(part) for part in (RUNTIMES.get(runtime or "", runtime), row.get("precision")) if part)


def cell_text(entry: Document) -> str:
    """Format what was timed: `1 thread, batch 1, 32 tokens`."""
    threads = f"{entry.get('threads')} thread{'' if entry.get('threads') == 1 else 's'}"
    length = f"the task's own texts (mean {entry.get('seq_len')} tokens)" if has_own_lengths(entry) else f"{entry.get('seq_len')} tokens"
    return f"{threads}, batch {entry.get('batch_size')}, {length}"
