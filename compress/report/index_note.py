"""One line on the old index: may the first model's document vectors be kept, and at what cost?"""

from __future__ import annotations

from compress.report.formatting import interval_text, metric_name, number
from compress.report.run_folder import Document


def index_note(entry: Document) -> str | None:
    """Return the sentence of a model in an evaluation; None if it was not compared with the document vectors of another one."""
    index, model = entry.get("index"), entry["model"]
    if not index:
        return None
    first = index["of"]
    if "metrics" not in index:
        return f"Encode the documents again for {model}: its vectors have another size than those of {first}."
    against = index["vs_first"]
    name, change = against["metric"], 100 * against["delta"]
    score = f"{number(100 * index['metrics'][name])} (95 % interval {interval_text(index['ci95'][name], 1, 100)})"
    verdict = f"An index of {first} stays valid for {model}" if index["valid"] else f"Encode the documents again for {model}"
    return (
        f"{verdict}: with its queries and the document vectors of {first}, {metric_name(name)} × 100 is {score}, "
        f"{number(abs(change))} {'more' if change > 0 else 'less'} than with queries of {first} (95 % interval of the change "
        f"{interval_text(against['ci95'], 2, 100, signed=True)}); with document vectors of its own it is "
        f"{number(100 * entry['metrics'][name])}."
    )
