"""The model card: a Hub-ready README.md of a delivered model."""

from __future__ import annotations

from typing import Any

from compress.model.shape import sketch


def model_card(recipe: str, stage: str, manifests: dict[str, dict[str, Any]]) -> str:
    """Write the card of the model that `stage` made, from the manifests of the run's stages."""
    manifest = manifests[stage]
    task = manifest.get("task") or {}
    lines = [
        "---",
        "library_name: onnx" if manifest["kind"] == "onnx" else "library_name: transformers",
        f"pipeline_tag: {task.get('kind', 'text-classification')}",
        "tags: [bert, compression, onnx, int8]" if manifest.get("precision") == "int8" else "tags: [bert, compression]",
        "---",
        "",
        f"# {recipe}: {stage}",
        "",
        "Made by `compress`. What was done to the model, in order:",
        "",
        *(f"- {_step(step)}" for step in manifest["lineage"]),
        "",
        *_accuracy(stage, manifests),
        *_speed(stage, manifests),
        *_shape(manifest),
        "## Use",
        "",
        "```python",
        "import compress",
        "" if manifest["kind"] == "onnx" else "# a PyTorch classifier; its tokenizer is beside it",
        'model = compress.load_onnx("path/to/this/folder")'
        if manifest["kind"] == "onnx"
        else 'model = compress.load_model("path/to/this/folder")',
        'print(model("a text to classify"))' if manifest["kind"] == "onnx" else "print(model)",
        "```",
        "",
        "## Limits",
        "",
        f"Inputs are cut to {(manifest.get('reading') or task).get('max_length') or 'the model’s'} tokens.",
        "The scores above hold for data like the task's, the latency for the machine named.",
        "",
    ]
    return "\n".join(lines)


def _step(step: dict[str, Any]) -> str:
    if "model" in step:
        return f"started from `{step['model']}`"
    told = {key: value for key, value in step["settings"].items() if value is not None}
    return f"`{step['verb']}` (seed {step['seed']}; " + ", ".join(f"{key} {value}" for key, value in told.items()) + ")"


def _accuracy(stage: str, manifests: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for manifest in manifests.values():
        for entry in manifest.get("results", []) if manifest["verb"] == "eval" else []:
            if entry["model"] == stage:
                scores = ", ".join(
                    f"{name} {value:.4f} (95 % interval {entry['ci95'][name][0]:.4f} to {entry['ci95'][name][1]:.4f})"
                    for name, value in entry["metrics"].items()
                )
                lines += ["## Accuracy", "", f"On {manifest['task']}, {manifest['split']} (n = {manifest['n']}): {scores}.", ""]
    return lines


def _speed(stage: str, manifests: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for manifest in manifests.values():
        if manifest["verb"] != "bench":
            continue
        lines += [
            "## Latency",
            "",
            f"On {manifest['machine']['cpu']}:",
            "",
            "| threads | batch | length | p50 ms | speedup |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {entry['threads']} | {entry['batch_size']} | {entry['seq_len']} | {entry['latency_ms']['p50']:.2f} | "
            f"{entry['speedup']['ratio']:.2f}x over {entry['speedup']['vs']} |"
            for entry in manifest["results"]
            if entry["model"] == stage
        ]
        lines.append("")
    return lines


def _shape(manifest: dict[str, Any]) -> list[str]:
    if not manifest.get("layers"):
        return []
    return ["## Shape", "", "Heads and FFN neurons, from the first layer to the last:", "", "```", sketch(manifest["layers"]), "```", ""]
