"""Bad recipes and task files."""

# ruff: noqa: E501, S108 (tables)
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.torture.bad_case import Bad, changed, recipe_document, written

RUN = ["run", "bad.yaml", "-o", "out"]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HEAD = "schema: 1\nname: x\nmodel: ./model\n"


def _text(item: str, name: str, text: str | bytes, says: str, code: int = 3) -> Bad:
    return Bad(item, name, RUN, code, says, written(text))


def _edit(item: str, name: str, change: Callable[[dict[str, Any]], object], says: str, code: int = 3, dry: bool = False) -> Bad:
    return Bad(item, name, [*RUN, "--dry-run"] if dry else RUN, code, says, changed(change))


def _setting(stage: str, key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["stages"][stage].update({key: value})


def _dump() -> str:
    import yaml

    return yaml.safe_dump(recipe_document(), sort_keys=False)


CASES = [
    *(_text("empty file", name, text, "is empty") for name, text in {"nothing": "", "blank": "\n \n", "comment": "# x\n", "null": "null"}.items()),
    _text("empty file", "list", "- a\n", "not a mapping"),
    _text("empty file", "text", "hello", "not a mapping"),
    _text("binary", "random", bytes(range(128, 256)) * 20, "utf-8"),
    _text("binary", "png", b"\x89PNG\r\n\x1a\n" + b"\0" * 90, "utf-8"),
    _text("binary", "nul", HEAD.encode() + b"\0\0", "not readable as yaml"),
    _text("binary", "elf", b"\x7fELF\x02\x01\x01" + b"\0" * 40, "not readable as yaml"),
    _text("BOM", "utf-8", b"\xef\xbb\xbf" + b"schema: 1\nname: x\n", "stages"),
    _text("UTF-16", "little-endian", "\ufeffschema: 1\n".encode("utf-16-le"), "utf-8"),
    _text("UTF-16", "big-endian", "\ufeffschema: 1\n".encode("utf-16-be"), "utf-8"),
    _text("UTF-16", "latin-1", "name: caf\xe9\n".encode("latin-1"), "utf-8"),
    _text("tabs", "indented", HEAD + "stages:\n\tteacher: {do: finetune, from: model}\n", "line 5"),
    _text("tabs", "after key", HEAD + "stages:\n  teacher:\n\t  do: finetune\n", "line 6"),
    _text("duplicate keys", "top", HEAD + "name: y\nstages: {}\n", "'name' is given twice"),
    _text("duplicate keys", "stage", HEAD + "stages:\n  a: {do: finetune, from: model}\n  a: {do: finetune, from: model}\n", "twice"),
    _text("duplicate keys", "setting", HEAD + "stages:\n  a: {do: finetune, from: model, lr: 1, lr: 2}\n", "twice"),
    _text("alias bomb", "bomb", BOMB + HEAD, "aliases"),
    _text("alias bomb", "one", "x: &x 1\n" + HEAD + "seed: *x\n", "aliases"),
    _text("alias bomb", "merge", "x: &x {a: 1}\ny:\n  <<: *x\n", "aliases"),
    _text("alias bomb", "deep", "a: " + "[" * 3000 + "]" * 3000, "nested deeper"),
    _text("alias bomb", "large", "a: " + "x" * (2 << 20), "larger than"),
    _text("python object", "apply", HEAD + 'seed: !!python/object/apply:os.system ["touch hacked"]\n', "python/object"),
    _text("python object", "name", HEAD + "seed: !!python/name:os.system\n", "python/name"),
    _text("python object", "new", HEAD + 'seed: !!python/object/new:os.system ["touch hacked"]\n', "python/object"),
    _text("python object", "own tag", HEAD + "seed: !mine 3\n", "!mine"),
    _text("python object", "binary", HEAD + "seed: !!binary eA==\nstages: {a: {do: finetune, from: model}}\n", "seed"),
    _text("python object", "float", HEAD + 'seed: !!float ""\n', "not readable as yaml"),
    _text("python object", "key", "? [a, b]\n: 1\n", "is not text"),
    _edit("misspelt key", "top", lambda d: d.update(modle="x"), "did you mean 'model'"),
    _edit("misspelt key", "setting", _setting("teacher", "epoch", 1), "did you mean 'epochs'"),
    _edit("misspelt key", "task", lambda d: d["task"].update(lable="x"), "did you mean 'label'"),
    _edit("misspelt key", "gate", lambda d: d.update(gates={"max_dorp": 1}), "did you mean 'max_drop'"),
    _edit("misspelt key", "unlike any", _setting("slim", "qqqq", 1), "qqqq"),
    _edit("unknown do", "near", _setting("student", "do", "distil"), "did you mean 'distill'"),
    _edit("unknown do", "far", _setting("student", "do", "zzz"), "zzz"),
    _edit("unknown do", "number", _setting("student", "do", 3), "unknown verb"),
    _edit("unknown do", "list", _setting("student", "do", ["distill"]), "unknown verb"),
    _edit("unknown do", "missing", lambda d: d["stages"]["student"].pop("do"), "do"),
    _edit("unknown do", "stage is text", lambda d: d["stages"].update(student="distill"), "student"),
    _edit("unknown do", "stage is null", lambda d: d["stages"].update(student=None), "student"),
    _edit("cycle", "self", _setting("teacher", "from", "teacher"), "teacher"),
    _edit("cycle", "two", _setting("teacher", "from", "slim"), "slim"),
    _edit("cycle", "role", _setting("slim", "from", "student"), "student"),
    _edit("missing stage", "from", _setting("slim", "from", "teachr"), "did you mean 'teacher'"),
    _edit("missing stage", "teacher", _setting("student", "teacher", "nobody"), "nobody"),
    _edit("missing stage", "none", lambda d: d.update(stages={}), "stages"),
    _edit("missing stage", "no from", lambda d: d["stages"]["slim"].pop("from"), "from"),
    _edit("missing stage", "empty from", _setting("proof", "from", []), "from"),
    _edit("missing stage", "stages is a list", lambda d: d.update(stages=["finetune"]), "stages"),
    _edit("missing stage", "two sources", _setting("slim", "from", ["teacher", "model"]), "from"),
    _edit("missing stage", "no teacher", lambda d: d["stages"]["student"].pop("teacher"), "teacher"),
    _edit("missing stage", "prunes a graph", lambda d: d["stages"].update(more={"do": "prune", "from": "graph", "target_flops": 0.5}), "graph"),
    _edit("missing stage", "exports a measurement", lambda d: d["stages"].update(more={"do": "export", "from": "proof"}), "proof"),
    Bad("learning rate", "1e-5 is a number", [*RUN, "--dry-run"], 0, "", written(_dump().replace("lr: 0.001", "lr: 1e-5"))),
    _edit("learning rate", "text", _setting("teacher", "lr", "fast"), "lr"),
    _edit("learning rate", "nan", _setting("teacher", "lr", math.nan), "lr"),
    _edit("learning rate", "infinity", _setting("teacher", "lr", math.inf), "lr"),
    _edit("learning rate", "negative", _setting("teacher", "lr", -1e-3), "lr"),
    _edit("learning rate", "zero", _setting("teacher", "lr", 0), "lr"),
    _edit("learning rate", "truth", _setting("teacher", "lr", True), "lr"),
    _edit("learning rate", "list", _setting("teacher", "lr", [1e-3]), "lr"),
    _edit("learning rate", "epochs nan", _setting("teacher", "epochs", math.nan), "epochs"),
    _edit("learning rate", "epochs huge", _setting("teacher", "epochs", 10**12), "epochs"),
    _edit("learning rate", "batch size 0", _setting("teacher", "batch_size", 0), "batch_size"),
    _edit("learning rate", "seed negative", lambda d: d.update(seed=-1), "seed"),
    _edit("learning rate", "seed huge", lambda d: d.update(seed=2**70), "seed"),
    _edit("learning rate", "seed text", lambda d: d.update(seed="x"), "seed"),
    *(_edit("ratio", name, _setting("slim", "target_flops", value), "target_flops") for name, value in
      {"0": 0, "1.5": 1.5, "negative": -0.5, "nan": math.nan, "text": "half", "truth": True}.items()),
    _edit("ratio", "two targets", _setting("slim", "target_params", 0.5), "target"),
    _edit("ratio", "no target", lambda d: d["stages"]["slim"].pop("target_flops"), "target"),
    _edit("ratio", "gate nan", lambda d: d.update(gates={"max_drop": math.nan}), "max_drop"),
    _edit("ratio", "gate negative", lambda d: d.update(gates={"max_drop": -1}), "max_drop"),
    *(_edit("stage name", repr(name)[:24], lambda d, name=name: d["stages"].update({name: {"do": "finetune", "from": "model"}}), "name") for name in
      ("../../x", "/tmp/x", "", ".", "..", "a/b", "n" * 300, "a\nb", "model", "-x")),
    _edit("stage name", "recipe", lambda d: d.update(name="../../x"), "name"),
    _edit("stage name", "recipe list", lambda d: d.update(name=[1]), "name"),
    *(_edit("future schema", repr(value), lambda d, value=value: d.update(schema=value), "schema") for value in (2, 99, 0, -1, True, None, "1", 1.5, [1])),
    _edit("future schema", "missing", lambda d: d.pop("schema"), "schema"),
    *(Bad("--set", text, ["run", "small.yaml", "-o", "out", "--set", text], code, says) for text, code, says in (
        ("nope.x=1", 3, "nope"), ("teacher.epoch=2", 3, "epoch"), ("teacher", 3, "teacher"), ("=", 3, "="), ("teacher.epochs=-3", 3, "epochs"),
        ("teacher.epochs.x=1", 3, "epochs"), ("teacher.do=zzz", 3, "zzz"), ("a.b.c.d.e=1", 3, "a"), ("teacher.lr={", 3, "teacher.lr"),
        ("task.nope=1", 3, "nope"), ("slim.from=int8", 3, "int8"), (".=1", 3, ""), ("teacher.lr=!!python/name:os.system", 3, "python"))),
    Bad("recipe file", "missing", ["run", "none.yaml", "-o", "out"], 3, "no recipe file"),
    Bad("recipe file", "unknown name", ["run", "sst", "-o", "out"], 3, "unknown recipe"),
    Bad("recipe file", "a folder", ["run", "./model", "-o", "out"], 3, "model"),
    Bad("recipe file", "long name", ["run", "n" * 5000 + ".yaml", "-o", "out"], 3, "cannot be a recipe file"),
    _edit("recipe model", "missing", lambda d: d.update(model="./nowhere"), "nowhere", 4),
    _edit("recipe model", "number", lambda d: d.update(model=3), "model"),
    _edit("recipe model", "list", lambda d: d.update(model=["./model"]), "model"),
    _edit("recipe task", "unknown preset", lambda d: d.update(task="sst3"), "did you mean 'sst2'"),
    _edit("recipe task", "number", lambda d: d.update(task=3), "task"),
    _edit("recipe task", "missing", lambda d: d.pop("task"), "task"),
    _edit("recipe task", "kind is a list", lambda d: d["task"].update(kind=[1]), "kind"),
    _edit("recipe task", "kind unknown", lambda d: d["task"].update(kind="text-clasification"), "kind"),
    _edit("recipe task", "labels twice", lambda d: d["task"].update(labels=["a", "a"]), "labels"),
    _edit("recipe task", "labels empty", lambda d: d["task"].update(labels=[]), "labels"),
    *(_edit("recipe task", f"max_length {value}", lambda d, value=value: d["task"].update(max_length=value), "max_length") for value in (0, -1, 10**9, "x", 1.5)),
    _edit("recipe task", "text empty", lambda d: d["task"].update(text=[]), "text"),
    _edit("recipe task", "three texts", lambda d: d["task"].update(text=["a", "b", "c"]), "text"),
    _edit("recipe task", "file missing", lambda d: d["task"].update(train="data/none.parquet"), "none.parquet", 4),
    _edit("recipe task", "file is null", lambda d: d["task"].update(train=None), "train", 4),
]  # fmt: skip
