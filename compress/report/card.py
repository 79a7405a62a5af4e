"""The model card: a Hub-ready README.md of a delivered model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from compress.core.public_names import markdown_code, markdown_text, public_name, public_names, with_public_names
from compress.data.input_spec import InputSpec, Target
from compress.data.spec import target_of_kind
from compress.inference.onnx_session import STATES
from compress.models.activation import is_reranker, value_activation
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.layout import GRAPH
from compress.models.reference import LEGACY
from compress.models.sentence_head import sentence_head
from compress.models.sketch import sketch_layers
from compress.models.tokenizer import splits_bytes, splits_special_tokens, truncation_side
from compress.report.client_usage import ClientModel, client_lines
from compress.report.entries import has_own_lengths, is_interval
from compress.report.formatting import capitalized, interval_text, length_text, metric_name, number, runtime_text
from compress.report.index_note import index_note
from compress.report.run_folder import Document, Run
from compress.report.summary import summarize
from compress.report.usage import BY_LOADING, FIELDS, WORDS, by_compress, by_numpy, by_onnxruntime, example
from compress.report.verdict import verdict

WINDOWED: dict[Target, str] = {"tags": "token-classification", "span": "question-answering"}  # long inputs are split into windows
PIPELINES: dict[Target, str] = {
    **WINDOWED,
    "vector": "sentence-similarity",
    "mentions": "token-classification",
}  # the Hub has no tag for regression
SENTENCE_TRANSFORMERS = "sentence-transformers"
HUB_METRICS = {  # the Hub's names; F1 of every kind is its `f1`
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    **dict.fromkeys(("macro_f1", "micro_f1", "entity_f1", "word_f1", "squad_f1", "gap_f1"), "f1"),
}
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(@[\w./-]+)?")


def model_card(recipe: str, stage: str, manifests: dict[str, Document], folder: Path | None = None) -> str:
    """Write the card of a stage's model (or of one of its models, `slim/2x`), from the manifests of the run's stages."""
    manifests = _with_public_models(manifests)
    manifest = manifests[stage] = _with_kind(manifests[stage], folder)
    run = Run({}, manifests, {}, "", delivered=stage)
    rows = [row for row in summarize(run) if row["accuracy"] is not None or row["p50_ms"]]
    measured = verdict(run, rows) if any(row["model"] == stage for row in rows) else []
    matter = yaml.safe_dump(front_matter(recipe, stage, manifests), sort_keys=False, allow_unicode=True)
    return "\n".join(
        [
            f"---\n{matter}---\n",
            f"# {markdown_text(recipe)}: {markdown_text(stage)}\n",
            *(f"{markdown_text(sentence)}\n" for sentence in measured),
            "## Use\n",
            *_use(manifest, folder),
            "## What was done\n",
            "Created by `compress` in these steps:\n",
            *(f"- {_step(step)}" for step in manifest["lineage"]),
            "",
            *_shape(manifest),
            *_accuracy(stage, run),
            *_speed(stage, run),
            "## Limits\n",
            *(f"- {limit}" for limit in _limits(stage, run)),
            "",
        ]
    )


def _with_kind(manifest: Document, folder: Path | None) -> Document:
    """Return a manifest that says that a model is a reranker even if its stage had no task."""
    if folder is None or manifest.get("task") or not is_reranker(read_config(folder), manifest):
        return manifest
    return {**manifest, "task": {"kind": "text-ranking"}}


def _with_public_models(manifests: dict[str, Document]) -> dict[str, Document]:
    """Return manifests whose measured models are named without the paths of the machine that measured them.

    A model outside of the run never gets the name of a stage: its scores are not those of the stage.
    """
    entries = [entry for manifest in manifests.values() for entry in manifest.get("results") or []]
    measured = [str(name) for entry in entries for name in [entry["model"], *_baselines(entry).values()]]
    names = public_names(measured, taken=manifests)

    def renamed(entry: Document) -> Document:
        against = {key: {**entry[key], "vs": names[str(baseline)]} for key, baseline in _baselines(entry).items()}
        index = {"index": {**entry["index"], "of": names[str(entry["index"]["of"])]}} if entry.get("index") else {}
        return {**entry, "model": names[str(entry["model"])], **against, **index}

    public = {stage: [renamed(entry) for entry in manifest.get("results") or []] for stage, manifest in manifests.items()}
    return {stage: {**manifest, "results": public[stage]} if public[stage] else manifest for stage, manifest in manifests.items()}


def _baselines(entry: Document) -> dict[str, str]:
    """Return the models that a model's latency was compared with."""
    return {key: entry[key]["vs"] for key in ("speedup", "speedup_vs_onnx") if "vs" in (entry.get(key) or {})}


def front_matter(recipe: str, stage: str, manifests: dict[str, Document]) -> Document:
    """Return the card's metadata for the Hub; the license is unknown and left out."""
    manifest = manifests[stage]
    onnx = manifest["kind"] == "onnx"
    base = base_model(manifest["lineage"][0].get("model", "") if manifest["lineage"] else "")
    sentences = _target(manifest) == "vector" or _is_reranker(manifest)
    opens = manifest.get("plain")
    if onnx:  # a family without layers is none of transformers'
        opens = manifest.get("layers") != [] and (_is_reranker(manifest) or STATES in (manifest.get("graph_outputs") or [STATES]))
    library = SENTENCE_TRANSFORMERS if sentences and opens else "onnx" if onnx else "transformers" if opens else None
    tags = ["bert", "compression", *(["onnx"] if onnx else []), *([manifest["precision"]] if manifest.get("precision") in LIMITS else [])]
    results = _results(stage, manifests)
    index = {"model-index": [{"name": f"{recipe}-{stage.replace('/', '-')}", "results": results}]} if results else {}
    return {
        **({"library_name": library} if library else {}),
        "pipeline_tag": _pipeline(manifest),
        "tags": tags,
        **({"base_model": base} if base else {}),
        **index,
    }


def base_model(reference: str) -> str | None:
    """Return the hub id of a model reference, without its revision; None for folders and builtins."""
    match = _HUB_ID.fullmatch(LEGACY.get(reference.partition("@")[0], reference))
    return match[1] if match and not reference.startswith(".") else None


def _results(stage: str, manifests: dict[str, Document]) -> list[Document]:
    results = []
    task = manifests[stage].get("task") or {}
    for manifest in manifests.values():
        for entry in (manifest.get("results") or []) if manifest["verb"] == "eval" else []:
            scores = {name: value for name, value in entry["metrics"].items() if isinstance(value, int | float) and value == value}
            if entry["model"] != stage or not scores:
                continue
            name = str(manifest.get("task"))
            dataset = {"name": name, "type": (task.get("hub") or {}).get("repo", name), "split": manifest.get("split")}
            metrics = [
                {"type": HUB_METRICS.get(metric, metric), "name": metric_name(metric), "value": round(float(value), 6)}
                for metric, value in scores.items()
            ]
            results.append({"task": {"type": _pipeline(manifests[stage])}, "dataset": dataset, "metrics": metrics})
    return results


def _target(manifest: Document) -> Target:
    recorded, task = manifest.get("input_spec") or {}, manifest.get("task") or {}
    return recorded.get("target") or target_of_kind(task.get("kind", "text-classification"), bool(task.get("multi_label")))


def _is_reranker(manifest: Document) -> bool:
    return (manifest.get("task") or {}).get("kind") == "text-ranking"


def _pipeline(manifest: Document) -> str:
    """Return the Hub's tag for what a model does."""
    return "text-ranking" if _is_reranker(manifest) else PIPELINES.get(_target(manifest), "text-classification")


def _client_model(manifest: Document, folder: Path) -> ClientModel | None:
    """Return what other clients must know of an embedder or reranker; None for other models, and checkpoints that they cannot open."""
    onnx, target = manifest["kind"] == "onnx", _target(manifest)
    if not (target == "vector" or _is_reranker(manifest)) or not (onnx or manifest.get("plain")):
        return None
    config = read_config(folder)
    family, head = family_of(config["model_type"]), sentence_head(config) if target == "vector" else None
    return ClientModel(
        reranker=head is None,
        graph=str(manifest.get("graph") or GRAPH) if onnx else None,
        layout=(manifest.get("settings") or {}).get("layout", "compress"),
        token_vectors=STATES in (manifest.get("graph_outputs") or []),
        size=head.size(config[family.state_key]) if head else 0,
        known_family=family.has_layers,
        max_length=_input_spec_from(manifest).max_length,
        prompt=(head.default_prompt or "", head.prompt) if head else ("", ""),
    )


def _input_spec_from(manifest: Document) -> InputSpec:
    """Return how the model reads inputs; defaults for what no manifest records."""
    recorded: Document = {**(manifest.get("task") or {}), **(manifest.get("input_spec") or {})}
    keys = ("max_length", "stride", "max_answer", "no_answer", "null_threshold")
    return InputSpec(_target(manifest), **{key: recorded[key] for key in keys if recorded.get(key) is not None})


def _use(manifest: Document, folder: Path | None) -> list[str]:
    """Return the section on running the model from its folder."""
    return [*_own_use(manifest, folder), *_other_clients(manifest, folder)]


def _other_clients(manifest: Document, folder: Path | None) -> list[str]:
    """Return the lines for other clients, if there are any for this model."""
    model = _client_model(manifest, folder) if folder is not None else None
    return client_lines(model) if model else []


def _own_use(manifest: Document, folder: Path | None) -> list[str]:
    """Return the lines for compress, and for ONNX Runtime alone."""
    columns = 2 if _is_reranker(manifest) else len((manifest.get("task") or {}).get("text") or [""])
    input_spec = _input_spec_from(manifest)
    if manifest["kind"] != "onnx":
        given = " ".join([json.dumps(" ".join(WORDS))] if input_spec.target == "tags" else example(input_spec.target, columns))
        given = f"'{given}'" if input_spec.target == "mentions" else given  # JSON
        pair = "--pair " if columns > 1 and input_spec.target != "vector" else ""
        shell = f"compress predict . {pair}{given}\ncompress export . -o graph  # for ONNX Runtime"
        return ["A PyTorch checkpoint; in its folder:\n", f"```sh\n{shell}\n```\n", f"```python\n{BY_LOADING}```\n"]
    side, split, spaced, prompt = "right", False, True, ""
    if folder is not None:
        head = sentence_head(read_config(folder)) if input_spec.target == "vector" else None
        prompt = head.prompt if head else ""
        input_spec = replace(input_spec, activation=value_activation(read_config(folder)))
        side, split = truncation_side(folder), splits_special_tokens(folder)
        spaced = splits_bytes(folder)
    hints = manifest.get("runtime") or {}
    names, basic = manifest.get("graph_inputs") or list(FIELDS), hints.get("optimization") == "basic"
    disabled, session = hints.get("disabled_optimizers") or [], hints.get("session_config") or {}
    graph = str(manifest.get("graph") or GRAPH)
    plain = by_onnxruntime(input_spec, columns, names, disabled, session, basic, side, split, spaced, graph, prompt)
    windows = (
        " Inputs longer than the limit below are cut here; compress splits them into windows." if input_spec.target in WINDOWED else ""
    )
    if input_spec.target == "mentions":
        windows = " Inputs longer than the limit below are cut here; compress keeps the tokens that are nearest to the mentions."
    what = "vectors" if input_spec.target == "vector" else "logits"
    return [
        "In the model's folder (a copy, or from the Hub: `hf download OWNER/NAME --local-dir FOLDER`):\n",
        f"```python\n{by_compress(input_spec.target, columns)}```\n",
        f"Without compress, with `onnxruntime`, `tokenizers` and `numpy` only, five lines give the {what}.{windows}\n",
        f"```python\n{plain}```\n",
        f"The prediction from the {what}:\n",
        f"```python\n{by_numpy(input_spec)}```\n",
    ]


def _step(step: Document) -> str:
    if "model" in step:
        name = str(step["model"])
        if name.startswith("builtin:") or base_model(name):
            return f"started from {markdown_code(name)}"
        return f"started from a local model, {markdown_code(public_name(name))}"
    settings = {key: with_public_names(value) for key, value in step["settings"].items() if value is not None}
    shown = ", ".join(markdown_text(f"{key} {value}") for key, value in settings.items())
    return f"{markdown_code(str(step['verb']))} (seed {step['seed']}; {shown})"


def _shape(manifest: Document) -> list[str]:
    if not manifest.get("layers"):
        return []
    return ["Heads and FFN neurons of each layer, first to last:\n", f"```\n{sketch_layers(manifest['layers'])}\n```\n"]


def _accuracy(stage: str, run: Run) -> list[str]:
    """Return one table per evaluation, with the first model and this one."""
    lines = []
    for manifest in run.measured("eval"):
        entries = {entry["model"]: entry for entry in manifest["results"]}
        if stage not in entries:
            continue
        shown = list(dict.fromkeys([manifest["results"][0]["model"], stage]))
        names = list(entries[stage]["metrics"])
        on = f"{markdown_text(str(manifest['task']))}, {manifest['split']} (n = {manifest['n']})"
        lines += ["## Accuracy\n", f"On {on}, × 100, with 95 % intervals:\n"]
        lines += _table(
            ["Model", *(capitalized(metric_name(name)) for name in names)],
            [[name, *(_score(entries[name], metric) for metric in names)] for name in shown],
        )
        if sentence := index_note(entries[stage]):
            lines.append(f"{markdown_text(sentence)}\n")
    return lines


def _score(entry: Document, metric: str) -> str:
    value, bounds = entry["metrics"].get(metric), entry.get("ci95", {}).get(metric)
    bounds_text = f" ({interval_text(bounds, 1, 100)})" if is_interval(bounds) else ""
    return f"{number(None if value is None else 100 * value)}{bounds_text}"


def _speed(stage: str, run: Run) -> list[str]:
    lines = []
    for manifest in run.measured("bench"):
        entries = [entry for entry in manifest["results"] if entry["model"] == stage or entry["model"].startswith(f"{stage} (")]
        rows = [
            [
                runtime_text(entry),
                str(entry["threads"]),
                str(entry["batch_size"]),
                length_text(entry),
                number((entry.get("latency_ms") or {}).get("p50")),
                f"{number(entry['speedup']['ratio'])}× over {entry['speedup']['vs']}",
            ]
            for entry in entries
        ]
        if rows:
            lines += ["## Latency\n", f"On {markdown_text((manifest.get('machine') or {}).get('cpu', 'an unknown machine'))}:\n"]
            lines += _table(["Runs on", "Threads", "Batch", "Tokens", "p50, ms", "Speedup"], rows)
    return lines


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    header, *cells = ([markdown_text(cell) for cell in row] for row in [columns, *rows])
    shown = [header, ["---"] * len(columns), *cells]
    return [*("| " + " | ".join(line) + " |" for line in shown), ""]


def _limits(stage: str, run: Run) -> list[str]:
    manifest, target = run.stages[stage], _target(run.stages[stage])
    limit = _input_spec_from(manifest).max_length
    long = "split into windows" if target in WINDOWED else "cut"
    limits = [f"Inputs longer than {limit} tokens are {long}."]
    evaluated = [entry for entry in run.measured("eval") if any(result["model"] == stage for result in entry["results"])]
    on = ", ".join(f"{markdown_text(str(entry['task']))} ({entry['split']}, n = {entry['n']})" for entry in evaluated)
    limits.append(f"Accuracy was measured on {on}; on other texts it can differ." if on else _validated(manifest))
    if target == "vector" and not any(index_note(result) for entry in evaluated for result in entry["results"] if result["model"] == stage):
        limits.append("Whether document vectors of the model that it was made from can be kept was not measured: encode them again.")
    timed = [entry for entry in run.measured("bench") if any(result["model"] == stage for result in entry["results"])]
    if timed:
        inputs = "" if any(has_own_lengths(entry) for entry in timed[-1]["results"]) else ", on random tokens without padding"
        cpu = markdown_text((timed[-1].get("machine") or {}).get("cpu", "one machine"))
        limits.append(f"Latency was measured on {cpu}{inputs}, without tokenization and queueing.")
    of_precision = LIMITS.get(str(manifest.get("precision")))
    if of_precision is not None:
        limits.append(of_precision(str(manifest.get("weights") or "")))
    return [*limits, "The license depends on the licenses of the base model and the data, which are not recorded here."]


def _int8(weights: str) -> str:
    if "7 bits" in weights:
        return "Weights use 7 bits, so that processors without int8 dot products (VNNI) compute correctly as well, but slower."
    return (
        "This int8 graph is for processors with int8 dot products (VNNI). Others accumulate in 16 bits, which can overflow: "
        "predictions may differ there, so measure the accuracy again."
    )


def _validated(manifest: Document) -> str:
    """Return the accuracy that the stage itself measured on validation."""
    served = {route.get("runtime") for route in (manifest.get("runtime") or {}).get("routes") or []}
    metrics = manifest.get("metrics") or {}
    scores = (metrics.get("validation_openvino") if served == {"openvino"} else None) or metrics.get("validation") or {}
    if scores.get("drop_points") is None:
        return "Its accuracy was not measured in this run."
    main = next((name for name in scores if name not in ("n", "float", "drop_points")), "accuracy")
    if main == "cosine":
        vectors = f"its vectors had a mean cosine × 100 of {100 * scores[main]:.2f} with those before quantization"
        return f"On validation (n = {scores['n']}) {vectors}; on other texts it can differ."
    values = f"{100 * scores[main]:.2f}, and {100 * scores['float']:.2f} before quantization"
    return f"On validation (n = {scores['n']}) its {metric_name(main)} × 100 was {values}; on other texts it can differ."


LIMITS: dict[str, Callable[[str], str]] = {
    "int8": _int8,
    "int4": lambda weights: "int4 weights save memory, not time: int8 is faster.",
    "fp16": lambda weights: "float16 is for GPUs; ONNX Runtime on CPUs casts to float32 and back, which is slower than float32 itself.",
    "bf16": lambda weights: "Weights are bfloat16. ONNX Runtime on CPUs computes in float32, OpenVINO in bfloat16 if configured.",
}
