"""`compress predict`: with embedders and rerankers, and one line per text."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from compress.cli.main import main
from compress.inference import predictor
from compress.inference.decoding import Prediction
from compress.inference.predictor import open_predictor
from tests import tiny
from tests.unit.data.retrieval_files import write_beir

TEXTS = ["the dog and the horse", "tea"]
Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny embedder."""
    return tiny.write_embedder(tmp_path_factory.mktemp("embedder") / "model")


def predict(capsys: Printed, *arguments: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out, printed.err


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *args: None)


def test_vectors_as_json_lines_and_as_a_file(embedder: Path, capsys: Printed, tmp_path: Path) -> None:
    expected = np.stack([found.vector for found in open_predictor(embedder)(TEXTS)])  # pyright: ignore[reportAttributeAccessIssue]
    code, out, _ = predict(capsys, "predict", embedder, *TEXTS)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["text"] for row in rows]) == (0, TEXTS)
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], dtype=np.float32), expected)
    assert json.loads(predict(capsys, "--json", "predict", embedder, *TEXTS)[1])["predictions"][1]["vector"] == rows[1]["vector"]
    assert predict(capsys, "predict", embedder, *TEXTS, "-o", tmp_path / "v.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)


def test_a_query_is_compared_with_each_text(embedder: Path, capsys: Printed) -> None:
    out = predict(capsys, "predict", embedder, "--query", TEXTS[0], *TEXTS)[1].splitlines()
    assert out[0] == f"1.0000\t{TEXTS[0]}"
    assert out[1] == predict(capsys, "predict", embedder, "--pair", *TEXTS)[1].rstrip("\n")[:6] + f"\t{TEXTS[1]}"


def test_a_reranker_scores_passages(capsys: Printed, tmp_path: Path) -> None:
    reranker = tiny.write_checkpoint(tmp_path / "model", target="value")
    expected = open_predictor(reranker)([("what?", text) for text in TEXTS])
    lines = predict(capsys, "predict", reranker, "--query", "what?", *TEXTS)[1].splitlines()
    assert lines == [f"{found.value:.4f}\t{text}" for found, text in zip(expected, TEXTS, strict=True)]  # pyright: ignore[reportAttributeAccessIssue]


def test_what_does_not_go_together(embedder: Path, capsys: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = tiny.write_checkpoint(tmp_path / "classifier")
    plain = tiny.write_encoder(tmp_path / "plain")
    refused = {
        ("--query", "q", "--pair", "a", "b"): (embedder, 2, "do not go together"),
        ("-o", str(tmp_path / "v.txt"), "a"): (embedder, 2, "ends with .npy"),
        ("-o", str(tmp_path / "v.npy"), "--query", "q", "a"): (embedder, 2, "--query and --pair give scores"),
        ("-o", str(tmp_path / "v.npy"), "--pair", "a", "b"): (embedder, 2, "--query and --pair give scores"),
        ("-o", str(tmp_path / "v.npy"), "a"): (classifier, 2, "-o needs an embedder"),
        ("--query", "q", "a"): (classifier, 2, "--query needs a reranker or an embedder"),
        ("--pooling", "mean", "a"): (classifier, 4, "predicts one class per text, not a vector"),
        ("a",): (plain, 4, "without a classifier"),
        ("--pooling", "cls", "a"): (embedder, 2, "says that its pooling is mean"),
    }
    for arguments, (model, expected, message) in refused.items():
        code, _, err = predict(capsys, "predict", model, *arguments)
        assert (code, message in err) == (expected, True), (arguments, err)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8"))
    code, _, err = predict(capsys, "predict", embedder, "--query", "q")
    assert (code, "no passages for --query were given" in err) == (2, True)
    assert predict(capsys, "predict", plain, "--pooling", "mean", "a")[0] == 0


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that a predictor was given; each gets a label with a line end."""
    seen: list[str] = []

    def opened(*_: object, **__: object) -> Callable[[Sequence[str]], list[Prediction]]:
        def predict(texts: Sequence[str]) -> list[Prediction]:
            seen.extend(texts)
            return [Prediction("a\nb", 0.5) for _ in texts]

        return predict

    monkeypatch.setattr(predictor, "open_predictor", opened)
    return seen


def test_lines_of_stdin_end_at_line_ends_only(predicted: list[str], capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["one", "", "a\rb\x0bc\x1cd\u2028e\x85f", "dos"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(("\n".join(texts) + "\r\n").encode()), encoding="utf-8"))
    code, out, _ = predict(capsys, "predict", "model")
    assert (code, predicted) == (0, texts)
    assert out.split("\n") == [*(f"a b\t0.5000\t{text}".replace("\r", " ") for text in texts), ""]


def test_arguments_with_line_ends_stay_on_their_line(predicted: list[str], capsys: Printed) -> None:
    assert predict(capsys, "predict", "model", "a\nb\r\nc")[1] == "a b\t0.5000\ta b  c\n"
    assert predicted == ["a\nb\r\nc"]


def test_candidates_of_a_data_set(embedder: Path, capsys: Printed, tmp_path: Path) -> None:
    folder, run = write_beir(tmp_path / "beir"), tmp_path / "a.run"
    code, out, _ = predict(capsys, "--json", "predict", embedder, "--beir", folder, "-o", run)
    document = json.loads(out)
    assert (code, document["output"], document["queries"], document["candidates"]) == (0, str(run), 3, 9)
    assert len(run.read_text(encoding="utf-8").splitlines()) == 9
    assert "name it: -o candidates.run" in predict(capsys, "predict", embedder, "--beir", folder)[2]
    assert "--beir takes no texts" in predict(capsys, "predict", embedder, "a text", "--beir", folder, "-o", run)[2]


def test_mention_pairs_as_json(capsys: Printed, tmp_path: Path) -> None:
    model = tiny.write_checkpoint(tmp_path / "model", target="mentions")
    pair = tiny.mention_pair(3) | {"id": "test-1"}
    (expected,) = open_predictor(model)([pair])
    code, out, _ = predict(capsys, "--json", "predict", model, json.dumps(pair))
    (found,) = json.loads(out)["predictions"]
    assert (code, found["id"], found["text"]) == (0, "test-1", pair["text"])
    assert found["name"] == {"A": pair["a"], "B": pair["b"], "neither": ""}[found["label"]]
    assert found["scores"] == pytest.approx(expected.scores)  # pyright: ignore[reportAttributeAccessIssue]
    assert sum(found["scores"].values()) == pytest.approx(1)
    assert found["score"] == max(found["scores"].values()) == found["scores"][found["label"]]
    line = predict(capsys, "predict", model, json.dumps(pair))[1].split("\t")
    assert (line[0], line[2], json.loads(line[3])) == (found["label"], found["name"], pair)
    code, _, err = predict(capsys, "predict", model, "a plain text")
    assert (code, "this model says which of two names a pronoun means" in err) == (4, True)
    assert predict(capsys, "predict", model, json.dumps(pair | {"a_offset": 99}))[0] == 4


@pytest.mark.parametrize("recorded", [False, True])
def test_a_reranker_wants_a_query(recorded: bool, capsys: Printed, tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "model", target="value")
    assert predict(capsys, "predict", folder, "a text")[0] == 0  # a regression of single texts, as far as one can tell
    if recorded:
        config = json.loads((folder / "config.json").read_text())
        config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    else:
        (folder / "compress.json").write_text(json.dumps({"task": {"kind": "text-ranking"}}), encoding="utf-8")
    code, _, err = predict(capsys, "predict", folder, "a text")
    assert code == 2
    assert "is a reranker, which scores passages for a query" in err
    assert predict(capsys, "predict", folder, "--query", "we", "a text")[0] == 0


def test_an_output_is_checked_before_any_text_is_encoded(embedder: Path, capsys: Printed, tmp_path: Path) -> None:
    for arguments in (["a text"], ["--beir", str(tmp_path)]):
        name = "a.npy" if arguments == ["a text"] else "a.run"
        code, _, err = predict(capsys, "predict", embedder, *arguments, "-o", tmp_path / "nowhere" / name)
        assert code == 2
        assert "cannot be written" in err
