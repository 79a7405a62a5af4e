"""Bad models: checkpoints and artifacts that are damaged, dangerous, or do not fit."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torture.bad_case import DROPPED, Bad, json_changed, split_header, with_header, written

PREDICT = ["predict", "model", "a red dog"]
TASK = ["--task", "task.yaml"]
EXPORT = ["export", "model", "-o", "graph"]


def _weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def build(work: Path) -> None:
        path = work / "model" / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return build


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(weights: bytes) -> bytes:
        header, tensors = split_header(weights)
        change(header)
        return with_header(json.dumps(header).encode(), tensors)

    return _weights(edit)


def _first(header: dict[str, Any]) -> dict[str, Any]:
    return header[min(header.keys() - {"__metadata__"})]


def _filled(value: float) -> Callable[[Path], None]:
    """Return a function that writes a value into the weights of one layer."""

    def build(work: Path) -> None:
        from safetensors.numpy import load_file, save_file

        path = work / "model" / "model.safetensors"
        weights = load_file(path)
        name = next(name for name in weights if "intermediate" in name and name.endswith("weight"))
        weights[name] = weights[name].copy()
        weights[name][0, 0] = value
        save_file(weights, path, {"format": "pt"})

    return build


def _only_pickle(work: Path) -> None:
    (work / "model" / "model.safetensors").unlink()
    (work / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(_Harmful()))


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch hacked",))


def _without(*names: str) -> Callable[[Path], None]:
    return lambda work: [(work / "model" / name).unlink() for name in names]


def _more_tokens(work: Path) -> None:
    """Give the tokenizer more tokens than the model has embeddings."""
    path = work / "model" / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    vocabulary |= {f"more{number}": len(vocabulary) + number for number in range(30)}
    path.write_text(json.dumps(document), encoding="utf-8")


def _weight(name: str, code: str, change: Callable[[bytes], bytes], says: str) -> Bad:
    return Bad(code, name, PREDICT, 4, says, _weights(change))


def _config(name: str, says: str, arguments: list[str] = PREDICT, code: int = 4, **changes: Any) -> Bad:
    return Bad("config", name, arguments, code, says, json_changed("model/config.json", **changes))


def _external(location: str, link: Callable[[Path, Path], object] | None = None) -> Callable[[Path], None]:
    """Return a function that moves a tensor of an exported graph into a file outside, named or linked as given."""

    def build(work: Path) -> None:
        import onnx
        from onnx import numpy_helper

        _export(work)
        graph = onnx.load(work / "graph" / "model.onnx")
        tensor = max(graph.graph.initializer, key=lambda entry: len(entry.raw_data))
        raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        (work / "secret").write_bytes(raw)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", location.format(work=work)), ("offset", "0"), ("length", str(len(raw)))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        (work / "graph" / "model.onnx").write_bytes(graph.SerializeToString())
        if link:
            target = work / "graph" / location
            target.parent.mkdir(exist_ok=True)
            link(work / "secret", target)

    return build


def _export(work: Path) -> None:
    """Export the model of a case."""
    import compress

    compress.export(work / "model", work / "graph")


def _graph(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def build(work: Path) -> None:
        _export(work)
        change(work / "graph")

    return build


def _cut(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


PREDICT_GRAPH = ["predict", "graph", "a red dog"]
TRUNCATED = {
    "nothing": lambda w: b"", "four bytes": lambda w: w[:4], "length only": lambda w: w[:8], "half a header": lambda w: w[:300],
    "half": lambda w: w[: len(w) // 2], "a byte short": lambda w: w[:-1], "a byte long": lambda w: w + b"\0",
}  # fmt: skip
LENGTHS = {"2^60": 2**60, "2^63": 2**63, "2^64-1": 2**64 - 1, "0": 0, "1": 1, "a byte more": None}
HEADERS: dict[str, bytes] = {
    "not JSON": b"{" * 200, "a list": b"[1, 2]", "null": b"null", "a number": b"12", "empty": b"{}", "deep": b'{"a":' * 30000,
    "not UTF-8": b"\xff\xfe" * 40, "entry is null": b'{"a": null}', "no offsets": b'{"a": {"dtype": "F32", "shape": [1]}}',
}  # fmt: skip
DIMENSIONS: dict[str, list[Any]] = {
    "hidden_size": [10**9, 0, -1, "32", 1.5, None, True, [32], 33],
    "vocab_size": [10**12, 0, -5, "x"],
    "num_hidden_layers": [10**6, -1, "3", 4],
    "intermediate_size": [10**10, 0, None],
    "num_attention_heads": [0, 5, -4, 10**6],
    "max_position_embeddings": [0, -1, 10**10],
    "type_vocab_size": [-1, 10**9],
}
CODE_KEYS: dict[str, Any] = {
    "auto_map": {"AutoModel": "code.Model"}, "_attn_implementation_internal": "owner/kernel", "_attn_implementation": "owner/kernel",
    "attn_implementation": "owner/kernel", "_name_or_path_x": "y", "custom_pipelines": {"x": {"impl": "code.P"}}, "trust_remote_code": True,
    "quantization_config": {"quant_method": "x"},
}  # fmt: skip
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2"}, "llama": {"model_type": "llama"}, "t5": {"model_type": "t5"}, "unknown": {"model_type": "bret"},
    "none": {"model_type": DROPPED}, "list": {"model_type": ["bert"]}, "null": {"model_type": None}, "number": {"model_type": 3},
    "decoder": {"is_decoder": True}, "cross attention": {"add_cross_attention": True}, "encoder-decoder": {"is_encoder_decoder": True},
    "relative positions": {"position_embedding_type": "relative_key"}, "activation": {"hidden_act": "nope"},
}  # fmt: skip
LABELS: dict[str, dict[str, Any]] = {
    "empty": {"id2label": {}}, "list": {"id2label": ["a", "b", "c"]}, "not numbers": {"id2label": {"a": "x", "b": "y", "c": "z"}},
    "gap": {"id2label": {"0": "x", "1": "y", "7": "z"}},
    "too many": {"id2label": {str(n): f"l{n}" for n in range(9)}}, "null": {"id2label": None}, "nested": {"id2label": {"0": {"a": 1}, "1": "b", "2": "c"}},
    "problem type": {"problem_type": "nope"},
}  # fmt: skip

CASES = [
    Bad("missing folder", "misspelt", ["predict", "modle", "x"], 4, "did you mean 'model'"),
    Bad("missing folder", "path", ["predict", "./none/here", "x"], 4, "none/here"),
    Bad("missing folder", "empty", ["predict", "empty", "x"], 4, "config.json", lambda work: (work / "empty").mkdir()),
    Bad("missing folder", "builtin", ["predict", "builtin:nope", "x"], 4, "builtin"),
    Bad("missing folder", "hub offline", ["--offline", "predict", "google-bert/bert-base-uncased", "x"], 5, "offline"),
    Bad("missing folder", "hub name", ["predict", "a/b/c/d", "x"], 4, "a/b/c/d"),
    Bad("missing folder", "NUL", ["predict", "mod\0el", "x"], 4, ""),
    Bad("missing folder", "long", ["predict", "m" * 5000, "x"], 4, ""),
    Bad("a file", "weights", ["predict", "model/model.safetensors", "x"], 4, "model.safetensors"),
    Bad("a file", "text", ["eval", "notes.txt", *TASK], 4, "notes.txt", written("hello", "notes.txt")),
    *(_weight(name, "truncated safetensors", change, "damaged") for name, change in TRUNCATED.items()),
    *(_weight(f"length {name}", "safetensors header", lambda w, n=n: with_header(json.dumps(split_header(w)[0]).encode(), split_header(w)[1],
      len(json.dumps(split_header(w)[0])) + 1 if n is None else n), "damaged") for name, n in LENGTHS.items()),
    *(_weight(name, "safetensors header", lambda w, h=h: with_header(h, split_header(w)[1]), "damaged") for name, h in HEADERS.items()),
    *(Bad("safetensors header", name, PREDICT, 4, says, _header(change)) for name, change, says in (
        ("negative offset", lambda h: _first(h).update(data_offsets=[-8, 8]), ""), ("reversed", lambda h: _first(h).update(data_offsets=[64, 0]), ""),
        ("beyond the end", lambda h: _first(h).update(data_offsets=[0, 2**50]), "damaged"), ("float offset", lambda h: _first(h).update(data_offsets=[0.5, 8]), ""),
        ("dtype", lambda h: _first(h).update(dtype="X99"), ""), ("shape", lambda h: _first(h).update(shape=[7, 7, 7]), ""),
        ("huge shape", lambda h: _first(h).update(shape=[2**40, 2**40]), ""), ("negative shape", lambda h: _first(h).update(shape=[-1]), ""),
        ("a tensor less", lambda h: h.pop(min(h.keys() - {"__metadata__"})), ""), ("renamed", lambda h: h.update(other=h.pop(min(h.keys() - {"__metadata__"}))), ""),
        ("metadata", lambda h: h.update(__metadata__=[1]), ""))),
    Bad("pickle only", "harmful", PREDICT, 4, "pytorch_model.bin", _only_pickle),
    Bad("pickle only", "harmful, trained", ["finetune", "model", *TASK, "-o", "out"], 4, "pytorch_model.bin", _only_pickle),
    Bad("pickle only", "tensorflow", PREDICT, 4, "", lambda work: (work / "model/model.safetensors").rename(work / "model/tf_model.h5")),
    Bad("pickle only", "no weights", PREDICT, 4, "", _without("model.safetensors")),
    *(_config(f"{key} {value}"[:40], "" if key == "num_hidden_layers" else key, **{key: value}) for key, values in DIMENSIONS.items() for value in values),
    *(_config(f"runs code: {key}", key, **{key: value}) for key, value in CODE_KEYS.items() if key not in ("trust_remote_code", "attn_implementation", "quantization_config")),
    *(_config(f"architecture {name}", "", **changes) for name, changes in ARCHITECTURES.items()),
    *(_config(f"architecture {name}, exported", "", EXPORT, **ARCHITECTURES[name]) for name in ("gpt2", "decoder", "activation")),
    *(_config(f"labels {name}", "", **changes) for name, changes in LABELS.items()),
    Bad("config", "not JSON", PREDICT, 4, "config.json", written("{", "model/config.json")),
    Bad("config", "a list", PREDICT, 4, "config.json", written("[]", "model/config.json")),
    Bad("config", "empty", PREDICT, 4, "config.json", written("", "model/config.json")),
    Bad("config", "deep", PREDICT, 4, "config.json", written("[" * 100000, "model/config.json")),
    Bad("config", "large", PREDICT, 4, "config.json", written('"' + "x" * (5 << 20) + '"', "model/config.json")),
    Bad("config", "UTF-16", PREDICT, 4, "config.json", written("{}".encode("utf-16"), "model/config.json")),
    Bad("tokenizer", "missing", PREDICT, 4, "tokenizer", _without("tokenizer.json", "tokenizer_config.json")),
    *(Bad("tokenizer", name, PREDICT, 4, "tokenizer", written(text, "model/tokenizer.json")) for name, text in
      {"empty": "", "list": "[]", "object": "{}", "cut": '{"version": "1.0", "trunc', "number": "3"}.items()),
    Bad("tokenizer", "larger than the model", PREDICT, 4, "the tokenizer in model has ids up to 126", _more_tokens),
    Bad("tokenizer", "larger, trained", ["finetune", "model", *TASK, "-o", "out"], 4, "the tokenizer in model has ids up to 126", _more_tokens),
    Bad("labels disagree", "other names", ["eval", "model", *TASK], 4, "label", json_changed("model/config.json", id2label={"0": "x", "1": "y", "2": "z"}, label2id={"x": 0, "y": 1, "z": 2})),
    Bad("labels disagree", "fewer classes", ["prune", "model", *TASK, "--target-flops", "0.5", "-o", "out"], 4, "",
        json_changed("model/config.json", id2label={"0": "animal", "1": "food"}, label2id={"animal": 0, "food": 1})),
    Bad("labels disagree", "student of other labels", ["distill", "--teacher", "model", "--student", "layers=2", *TASK, "-o", "out"], 4, "label",
        json_changed("model/config.json", id2label={"0": "x", "1": "y", "2": "z"}, label2id={"x": 0, "y": 1, "z": 2})),
    *(Bad("NaN weights", name, arguments, 4, "finite", _filled(value)) for name, arguments, value in (
        ("predict", PREDICT, float("nan")), ("eval", ["eval", "model", *TASK], float("nan")), ("infinite", PREDICT, float("inf")),
        ("finetune", ["finetune", "model", *TASK, "-o", "out"], float("nan")), ("export", EXPORT, float("nan")),
        ("prune", ["prune", "model", *TASK, "--target-flops", "0.5", "-o", "out"], float("-inf")))),
    Bad("external data", "..", PREDICT_GRAPH, 4, "", _external("../secret")),
    Bad("external data", "absolute", PREDICT_GRAPH, 4, "", _external("{work}/secret")),
    Bad("external data", "symbolic link", PREDICT_GRAPH, 4, "", _external("data", lambda secret, path: path.symlink_to(secret))),
    Bad("external data", "hard link", PREDICT_GRAPH, 4, "hard link", _external("data", lambda secret, path: path.hardlink_to(secret))),
    Bad("external data", "hard link below", PREDICT_GRAPH, 4, "hard link", _external("sub/data", lambda secret, path: path.hardlink_to(secret))),
    Bad("external data", "missing", PREDICT_GRAPH, 4, "", _external("data")),
    Bad("external data", "quantized", ["quantize", "graph", *TASK, "-o", "out"], 4, "", _external("../secret")),
    Bad("artifact", "cut", PREDICT_GRAPH, 4, "model.onnx", _graph(_cut)),
    Bad("artifact", "empty", PREDICT_GRAPH, 4, "model.onnx", _graph(lambda g: (g / "model.onnx").write_bytes(b""))),
    Bad("artifact", "garbage", PREDICT_GRAPH, 4, "model.onnx", _graph(lambda g: (g / "model.onnx").write_bytes(b"\x08\x07" + b"\xff" * 500))),
    Bad("artifact", "garbage, quantized", ["quantize", "graph", *TASK, "-o", "out"], 4, "", _graph(lambda g: (g / "model.onnx").write_bytes(b"\xff" * 500))),
    Bad("artifact", "no config", PREDICT_GRAPH, 4, "config.json", _graph(lambda g: (g / "config.json").unlink())),
    Bad("artifact", "no tokenizer", PREDICT_GRAPH, 4, "tokenizer", _graph(lambda g: (g / "tokenizer.json").unlink())),
    Bad("artifact", "fine-tuned", ["finetune", "graph", *TASK, "-o", "out"], 4, "checkpoint", _graph(lambda g: None)),
    Bad("artifact", "pruned", ["prune", "graph", *TASK, "--target-flops", "0.5", "-o", "out"], 4, "checkpoint", _graph(lambda g: None)),
    Bad("artifact", "exported again", ["export", "graph", "-o", "out"], 4, "checkpoint", _graph(lambda g: None)),
    Bad("already pruned", "pruned again", ["prune", "slim", *TASK, "--target-flops", "0.9", "-o", "out"], 0, "",
        more=(["prune", "model", *TASK, "--target-flops", "0.5", "--calib-samples", "8", "-o", "slim"],)),
    Bad("already quantized", "quantized again", ["quantize", "int8", *TASK, "-o", "out"], 4, "",
        more=(["quantize", "model", *TASK, "--method", "dynamic", "--max-drop", "100", "-o", "int8"],)),
    Bad("already quantized", "factorized twice", ["factorize", "low", *TASK, "--rank", "4", "-o", "out"], 2, "does not support factorized models",
        more=(["factorize", "model", *TASK, "--rank", "8", "-o", "low"],)),
    Bad("arguments", "no task", ["prune", "model", "--target-flops", "0.5", "-o", "out"], 2, "task"),
    Bad("arguments", "student SPEC", ["distill", "--teacher", "model", "--student", "layers=99", *TASK, "-o", "out"], 2, "layers"),
    Bad("arguments", "student SPEC key", ["distill", "--teacher", "model", "--student", "layer=2", *TASK, "-o", "out"], 2, "layer"),
    Bad("arguments", "not a number", ["prune", "model", *TASK, "--target-flops", "half", "-o", "out"], 2, "half"),
    Bad("arguments", "unknown option", ["prune", "model", "--nope"], 2, "--nope"),
    Bad("arguments", "unknown verb", ["prun", "model"], 2, "did you mean 'prune'"),
]  # fmt: skip
