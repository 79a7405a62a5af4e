"""Odd texts: every text in every verb that takes texts, in every kind of task, and as labels, columns and names of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import tiny
from tests.torture import small
from tests.torture.children import Place, run, share_out
from tests.torture.session import Report, Session

TEXTS: dict[str, str] = {
    "empty": "",
    "blank": " \t\n ",
    "100,000 characters": "dog " * 25_000,
    "one word of 100,000": "d" * 100_000,
    "NUL": "a\0b\0",
    "surrogate": "a \ud800 b",
    "low surrogate": "\udfff",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 🐕",
    "right to left": "\u202eabc \u05d0\u05d1",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "combining": "e" + "\u0301" * 500,
    "no-break": "a\u00a0b\u200bc\ufeffd",
    "control": "".join(map(chr, range(1, 32))),
    "escapes": "\x1b[31mred\x1b[0m \x07\x7f",
    "private": "\ue000\U000f0000\U0010ffff",
    "markup": "<s>[CLS][SEP]</s>[PAD]<mask>",
    "line ends": "a\r\nb\u2028c\u0085d",
}
REFUSED = {"surrogate", "low surrogate"}  # no Unicode text: may end with exit code 4
FILES = [part for split in ("train", "validation", "test") for part in (f"--{split}", "odd.jsonl")]
TASK = ["--kind", "text-classification", "--text", "text", "--label", "label", "--max-length", "32", *FILES]
FAST = ["--epochs", "1", "--batch-size", "8", "--precision", "fp32"]


@dataclass(frozen=True)
class Verb:
    """Commands that meet a text: the first one reads it from the data, from a file of lines, from stdin or as an argument.

    The others use what the first one has written. `rare` ones take seconds, and get all texts in one file.
    """

    steps: tuple[list[str], ...]
    by: str = "data"
    kind: str = "class"
    rare: bool = False


def _verb(*arguments: str, **options: Any) -> Verb:
    return Verb((list(arguments),), **options)


def _with_task(*arguments: str, **options: Any) -> Verb:
    return _verb(*arguments, *TASK, **options)


DISTILL = ("distill", "--teacher", "model", "--student", "layers=2", *FAST, "-o", "out")
PRUNE = ("prune", "model", "--target-flops", "0.6", "-o", "out")
VERBS: dict[str, Verb] = {
    "predict": _verb("predict", "model", by="lines"),
    "predict, argument": _verb("predict", "model", by="argument"),
    "predict, artifact": _verb("predict", "graph", by="lines"),
    "predict, artifact, argument": _verb("predict", "graph", by="argument"),
    "eval": _with_task("eval", "model", "--errors", "errors.jsonl", "--per-class"),
    "eval, artifact": _with_task("eval", "model", "graph"),
    "bench": _with_task("bench", "model", "--rounds", "5", "--no-memory"),
    "bench, artifact": _with_task("bench", "graph", "--rounds", "5", "--no-memory"),
    "finetune": _with_task("finetune", "model", *FAST, "-o", "out"),
    "finetune, frozen": _with_task("finetune", "model", "--mode", "frozen", *FAST, "-o", "out"),
    "prune": _with_task(*PRUNE, "--recover-epochs", "1"),
    "prune, unlabeled": _with_task(*PRUNE, "--unlabeled", "odd.txt"),
    "prune, vocab": _with_task("prune", "model", "--method", "vocab", "-o", "out"),
    "factorize": _with_task("factorize", "model", "--rank", "8", "-o", "out"),
    "share": _with_task("share", "model", "--layers", "1", "-o", "out"),
    "distill": _with_task(*DISTILL),
    "distill, unlabeled": _with_task(*DISTILL, "--unlabeled", "odd.txt"),
    "distill, augment": _with_task(*DISTILL, "--augment", "1", "--augment-model", "masked"),
    "export": _with_task("export", "model", "-o", "out"),
    "quantize": _with_task("quantize", "model", "--method", "static", "--max-drop", "100", "-o", "out"),
    "quantize, artifact": _with_task("quantize", "graph", "--method", "dynamic", "--max-drop", "100", "-o", "out"),
    "quantize, unlabeled": _verb("quantize", "graph", "--method", "static", "--unlabeled", "odd.txt", "-o", "out"),
    "run": _verb("run", "odd.yaml", "-o", "run", rare=True),
    "sweep": _verb("sweep", "odd.yaml", "--grid", "slim.target_flops=0.6,0.7", "-o", "sweep", rare=True),
    "auto": _with_task("auto", "model", "--max-drop", "100", "--budget", "90s", "-o", "auto", rare=True),
}
KINDS = {
    "labels": "multi-label", "value": "regression", "tags": "tags", "span": "question answering", "pair": "pair",
    "mentions": "coreference",
}  # fmt: skip
USES = ("label", "column", "file")  # of a text other than as a text


def odd_texts(session: Session) -> Report:
    """Run every case."""
    report = Report("texts")
    clean = _inputs(session.folder)
    cases: dict[str, Callable[[Place], list[str]]] = {}
    for text in TEXTS:
        cases |= {f"texts/{verb}/{text}": _case(_in_verb, verb, [text]) for verb, how in VERBS.items() if not how.rare}
        cases |= {f"texts/{name}/{text}": _case(_in_kind, kind, [text]) for kind, name in KINDS.items()}
        uses = [use for use in USES if (use, text) != ("file", "NUL")]  # no command line can carry it
        cases |= {f"texts/as a {use}/{text}": _case(_as_name, use, [text]) for use in uses}
    sound = [text for text in TEXTS if text not in REFUSED]
    cases |= {f"texts/{verb}/all": _case(_in_verb, verb, sound) for verb in VERBS}
    names = session.sample([name for name in cases if session.wanted(name)], least=6)

    def work(number: int) -> list[str]:
        place = small.copy(clean, session.folder / "cases" / f"{number}")
        problems = cases[names[number]](place)
        small.remove(place.folder)
        return problems

    for number, problems in share_out(session.jobs, names, work, session.folder / "jobs"):
        report.add(names[number], problems)
    report.figures["table"] = (
        f"{len(TEXTS)} texts x {sum(not verb.rare for verb in VERBS.values())} ways into a verb, {len(KINDS)} other kinds of tasks and "
        f"{len(USES)} other uses; all texts at once in {len(VERBS)} ways, run, sweep and auto among them"
    )
    return report


def _inputs(folder: Path) -> Place:
    """Write what the cases start from."""
    place = Place.make(folder / "clean")
    small.write_inputs(place.work)
    tiny.write_masked_lm(place.work / "masked")
    tiny.write_encoder(place.work / "encoder")
    ended = run(place, ["export", "model", "-o", "graph"], small.undisturbed_clock)
    if ended.code:
        raise RuntimeError(f"the export fails: {ended.err}")
    return place


def _case(meet: Callable[[Place, str, list[str]], list[str]], how: str, texts: list[str]) -> Callable[[Place], list[str]]:
    return lambda place: meet(place, how, texts)


def _codes(texts: list[str]) -> list[int]:
    return [0, 4] if REFUSED & set(texts) else [0]


def _in_verb(place: Place, verb: str, names: list[str]) -> list[str]:
    """Run a verb on odd texts among ordinary ones."""
    texts, how = [TEXTS[name] for name in names], VERBS[verb]
    rows = [{"text": text, "label": label} for text, label in tiny.sentences(12, seed=9)]
    rows += [{"text": text, "label": tiny.LABELS[number % 3]} for number, text in enumerate(texts)]
    _write_rows(place.work / "odd.jsonl", rows)
    lines = [*(row["text"] for row in rows[:3]), *(text.replace("\n", " ") for text in texts)]
    feed = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"
    (place.work / "odd.txt").write_bytes(b"".join(line.encode("utf-8", "replace") + b"\n" for line in lines * 4))
    recipe = yaml.safe_load((place.work / "small.yaml").read_text(encoding="utf-8"))
    recipe["task"] |= dict.fromkeys(("train", "validation", "test"), "odd.jsonl")
    (place.work / "odd.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    if how.by == "data":
        return [problem for arguments in how.steps for problem in _run(place, arguments, _codes(names))] + small.leftovers(place)
    extra, given = (texts, None) if how.by == "argument" else ([], feed)
    return _predictions(place, [*how.steps[0], *extra], given, texts if how.by == "argument" else lines, _codes(names))


def _predictions(place: Place, arguments: list[str], feed: bytes | None, expected: list[str], codes: list[int]) -> list[str]:
    """Predict with and without `--json`: one prediction per text, in order, on one line."""
    problems = _run(place, arguments, codes, feed)
    document = _document(place)
    if "predictions" in document and len(document["predictions"]) != len(expected):
        problems.append(f"{len(document['predictions'])} predictions of {len(expected)} texts")
    ended = run(place, arguments, small.undisturbed_clock, "plain", feed)
    problems += small.well_said(ended, codes)
    if not ended.code and ended.out.count("\n") != len(expected):
        problems.append(f"{ended.out.count(chr(10))} lines of {len(expected)} texts: {small.tail(ended.out, 300)!a}")
    return problems + small.leftovers(place)


def _in_kind(place: Place, kind: str, names: list[str]) -> list[str]:
    """Train on odd texts of another kind of task, export the result and predict with it."""
    texts = [TEXTS[name] for name in names]
    if kind == "pair":
        rows: list[dict[str, Any]] = [{"text": text, "other": text, "label": label} for text, label in tiny.sentences(9, seed=9)]
        rows += [{"text": text, "other": "a dog", "label": "food"} for text in texts] + [
            {"text": "a dog", "other": text, "label": "food"} for text in texts
        ]
        task: dict[str, Any] = {"text": ["text", "other"]}
    else:
        task = tiny.write_kind(place.work / "kind", kind, 12, 4)
        rows = [json.loads(line) for line in Path(task["train"]).read_text(encoding="utf-8").splitlines()]
        rows += [row for text in texts for row in _odd_rows(kind, text)]
    _write_rows(place.work / "odd.jsonl", rows)
    files = dict.fromkeys(("train", "validation", "test"), "odd.jsonl")
    (place.work / "odd.yaml").write_text(yaml.safe_dump({**task, **files, "max_length": 32}), encoding="utf-8")
    codes = _codes(names)
    problems = _run(place, ["finetune", "encoder", "--task", "odd.yaml", *FAST, "-o", "out"], codes)
    if problems or not (place.work / "out").exists():
        return problems + small.leftovers(place)
    problems = _run(place, ["export", "out", "--task", "odd.yaml", "-o", "served"], codes)
    problems += _run(place, ["eval", "out", "served", "--task", "odd.yaml", "--errors", "errors.jsonl"], codes)
    pair = kind in ("pair", "span")
    lines = [f"dog\t{text}" if pair else text for text in (text.replace("\n", " ").replace("\t", " ") for text in texts)]
    if kind == "mentions":
        lines = [json.dumps(_mention_pair(text)) for text in texts]
    feed = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"
    return problems + _predictions(place, ["predict", "served", *(["--pair"] if pair else [])], feed, lines, codes)


def _odd_rows(kind: str, text: str) -> list[dict[str, Any]]:
    """Return rows that hold a text."""
    if kind == "tags":
        return [{"tokens": [text, "dog"], "label": ["other", "animal"]}, {"tokens": ["dog", text], "label": ["animal", "other"]}]
    if kind == "span":
        found = {"text": ["dog"], "answer_start": [len(text) + 1]}
        return [
            {"question": "where is it ?", "context": f"{text} dog", "answers": found},
            {"question": text, "context": "the dog", "answers": {"text": ["dog"], "answer_start": [4]}},
        ]
    if kind == "mentions":
        return [_mention_pair(text) | {"a_coref": True, "b_coref": False}]
    return [{"text": text, "label": ["animal"] if kind == "labels" else 1.0}]


def _mention_pair(text: str) -> dict[str, Any]:
    """Return mentions with a text before, between and behind them."""
    pair: dict[str, Any] = {"text": text}
    for key, mention in {"a": "dog", "b": "cat", "pronoun": "she"}.items():
        pair |= {key: mention, f"{key}_offset": len(pair["text"]) + 1}
        pair["text"] += f" {mention} {text}"
    return pair


def _as_name(place: Place, use: str, names: list[str]) -> list[str]:
    """Use a text as a label, as the name of a column, or as the name of a model's folder and of those derived from it."""
    (text,), codes = [TEXTS[name] for name in names], _codes(names)
    rows = [{"text": text, "label": label} for text, label in tiny.sentences(12, seed=9)]
    if use == "file":
        return _as_file(place, text, rows)
    if use == "column":
        _write_rows(place.work / "odd.jsonl", [{text: row["text"], "label": row["label"]} for row in rows])
        task = {"text": [text], "label": "label"}
    else:
        _write_rows(place.work / "odd.jsonl", [*rows, *({"text": row["text"], "label": text} for row in rows[:3])])
        task = {"text": ["text"], "label": "label"}
        codes = [4] if not text.strip() else codes  # a row without a label
    files = dict.fromkeys(("train", "validation", "test"), "odd.jsonl")
    (place.work / "odd.yaml").write_text(json.dumps({**task, **files, "max_length": 32}), encoding="utf-8")
    problems = _run(place, ["finetune", "encoder", "--task", "odd.yaml", *FAST, "-o", "out"], codes)
    if problems or not (place.work / "out").exists():
        return problems + small.leftovers(place)
    for arguments in (
        ["export", "out", "--task", "odd.yaml", "-o", "served"],
        ["eval", "out", "served", "--task", "odd.yaml", "--per-class", "--errors", "errors.jsonl"],
        ["quantize", "served", "--task", "odd.yaml", "--method", "dynamic", "--max-drop", "100", "-o", "int8"],
    ):
        problems += _run(place, arguments, codes)
    return problems + _predictions(place, ["predict", "served", "a dog", "a red cat"], None, ["a dog", "a red cat"], codes)


def _as_file(place: Place, text: str, rows: list[dict[str, str]]) -> list[str]:
    """Use a text as a name: what no file can be called is refused."""
    name = text.replace("/", "|")
    possible = name.strip(" .") and "\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name) and len(name.encode()) < 240
    if possible:
        _write_rows(place.work / f"{name}.jsonl", rows)
        (place.work / "model").rename(place.work / name)
    codes = [0] if possible else [2, 4, 5]
    problems = []
    for arguments in (
        ["predict", "--", f"./{name}", "a dog"],
        ["export", "graph" if not possible else f"./{name}", "-o", f"./{name} out"],
        ["eval", f"./{name}", *[f"./{name}.jsonl" if part == "odd.jsonl" else part for part in TASK]],
    ):
        problems += _run(place, arguments, codes)
    return problems + small.leftovers(place)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _run(place: Place, arguments: list[str], codes: list[int], feed: bytes | None = None) -> list[str]:
    """Run a command with `--json`; its output must be one JSON document."""
    ended = run(place, ["--json", *arguments], small.undisturbed_clock, "json", feed)
    problems = small.well_said(ended, codes)
    try:
        json.loads(ended.out)
    except ValueError as error:
        problems.append(f"stdout is not one JSON document: {error}: {small.tail(ended.out, 200)!a}")
    return [f"{arguments[0]}: {problem}" for problem in problems]


def _document(place: Place) -> dict[str, Any]:
    try:
        return json.loads((place.log / "json.out").read_bytes())
    except ValueError:
        return {}
