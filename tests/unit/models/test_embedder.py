"""Embedders: the vectors of sentence-transformers, computed here from the encoder's states; and the same after saving and in ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import DataError, ModelError, UsageError
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.spec import TaskSpec
from compress.data.task import Task
from compress.distill.bilstm_student import create_bilstm
from compress.distill.init_texts import InitTexts
from compress.distill.static_student import create_static
from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, run_arrays, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.config import longest_input, read_config
from compress.models.config_heads import agreed_target, target_of
from compress.models.embedder import MIN_NORM, match_vectors, pooled, vector_size
from compress.models.family import family_of
from compress.models.label_mapping import map_labels
from compress.models.model_shape import model_shape
from compress.models.reference import digest_model
from compress.models.shape import LstmShape, StaticShape
from compress.prune.search import Kept
from compress.prune.surgery import mask_model, slice_model
from tests import tiny

ALL = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken")
FAMILIES = ("bert", "mpnet")


def batch_of(family: str) -> dict[str, np.ndarray]:
    """Return texts of different lengths, padded."""
    return tiny.encoded(family).batch(range(6))


def expected_vectors(folder: Path, batch: dict[str, np.ndarray], pooling: tuple[str, ...]) -> np.ndarray:
    """Pool the states of transformers' own encoder, token by token."""
    import transformers

    encoder = transformers.AutoModel.from_pretrained(str(folder)).eval()
    names = [name for name in batch if name != "token_type_ids" or "type_vocab_size" in read_config(folder)]
    with torch.inference_mode():
        states = encoder(**{name: torch.from_numpy(batch[name]) for name in names}).last_hidden_state.numpy()
    rows = []
    for state, mask in zip(states, batch["attention_mask"], strict=True):
        tokens = state[: int(mask.sum())]
        places = np.arange(1, len(tokens) + 1)[:, None]
        modes = {
            "cls": tokens[0],
            "max": tokens.max(0),
            "mean": tokens.mean(0),
            "mean_sqrt_len": tokens.sum(0) / np.sqrt(len(tokens)),
            "weightedmean": (tokens * places).sum(0) / places.sum(),
            "lasttoken": tokens[-1],
        }
        rows.append(np.concatenate([modes[mode] for mode in pooling]))
    return np.array(rows)


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", ALL), ("mpnet", ("mean",)), ("distilbert", ("cls",)), ("roberta", ("lasttoken",))]
)
def test_vectors_are_the_pooled_states(tmp_path: Path, family: str, pooling: tuple[str, ...]) -> None:
    folder, batch = tiny.write_embedder(tmp_path / "model", family, pooling), batch_of(family)
    vectors = torch_forward(load_model(folder))(batch)
    expected = expected_vectors(folder, batch, pooling)
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), MIN_NORM)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_vectors_equal_those_of_sentence_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = tiny.write_embedder(tmp_path / "model", "bert", ("cls", "mean", "mean_sqrt_len"), dense=10)
    texts = [text for text, _ in tiny.sentences(6)]
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    from compress.inference.predictor import open_predictor

    vectors = [prediction.vector for prediction in open_predictor(folder)(texts)]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(np.stack(vectors), expected, atol=2e-6)
    save_model(load_model(folder), copy := _new(tmp_path / "copy"), folder)
    again = library.SentenceTransformer(str(copy), device="cpu").encode(texts)
    np.testing.assert_allclose(again, expected, atol=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_sliced_reloaded_and_onnx_are_equal(tmp_path: Path, family: str) -> None:
    pooling = ("max", "weightedmean", "lasttoken") if family == "bert" else ("mean", "mean_sqrt_len")
    folder, batch = tiny.write_embedder(tmp_path / "model", family, pooling, dense=12), batch_of(family)
    kept = [Kept([0, 2], list(range(0, 60, 3))), Kept([], list(range(10))), Kept([1], [])]
    masked, sliced = load_model(folder), load_model(folder)
    mask_model(masked, kept)
    slice_model(sliced, kept)
    save_model(sliced, copy := _new(tmp_path / "sliced"), folder)
    reloaded = load_model(copy)
    expected = torch_forward(masked)(batch)
    assert expected.shape == (6, 12)
    assert model_shape(reloaded) == model_shape(sliced)
    for model in (sliced, reloaded):
        np.testing.assert_allclose(torch_forward(model)(batch), expected, atol=2e-6)
    for form in (GraphForm(opset=17), GraphForm()):
        graph = build_graph(reloaded, form)
        assert [output.name for output in graph.graph.output] == ["sentence_embedding", "last_hidden_state"]
        onnx = session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))
        np.testing.assert_allclose(onnx(batch), expected, atol=5e-6)


def test_a_graph_that_pools_the_first_token_computes_no_other_in_its_last_layer(tmp_path: Path) -> None:
    model, batch = load_model(tiny.write_embedder(tmp_path / "model", pooling=("cls",), normalize=False)), batch_of("bert")
    graph = build_graph(model)
    onnx = session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(onnx(batch), torch_forward(model)(batch), atol=5e-6)
    assert any(node.name == "layer.2.first" for node in graph.graph.node)
    assert [output.name for output in graph.graph.output] == ["sentence_embedding"]
    tokens = open_session(build_graph(model, GraphForm(token_embeddings=True)).SerializeToString(), 1, "cpu", {})
    vectors, states = run_arrays(tokens, ["sentence_embedding", "last_hidden_state"], batch)
    np.testing.assert_allclose(vectors, torch_forward(model)(batch), atol=5e-6)
    np.testing.assert_allclose(states[:, 0], vectors, atol=5e-6)


def test_saved_folder_is_that_of_sentence_transformers(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model", dense=12)
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}), encoding="utf-8"
    )
    save_model(load_model(folder), copy := _new(tmp_path / "copy"), folder)
    for name in ("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json"):
        assert json.loads((copy / name).read_text()) == json.loads((folder / name).read_text())
    assert json.loads((copy / "config_sentence_transformers.json").read_text())["prompts"] == {"query": "query: "}
    config = json.loads((copy / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert "sentence_embedding" not in config
    assert (copy / "2_Dense" / "model.safetensors").is_file()


def test_digest_covers_the_head(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model")
    before = digest_model(folder)
    path = folder / "1_Pooling" / "config.json"
    path.write_text(path.read_text().replace("true", "false"), encoding="utf-8")
    assert digest_model(folder) != before


def test_early_folders_name_the_longest_input_after_the_family(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model", "roberta")
    path = (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    path.write_text('{"max_seq_length": 24}', encoding="utf-8")
    assert longest_input(read_config(folder), "vector") == 24
    before = digest_model(folder)
    path.write_text('{"max_seq_length": 32}', encoding="utf-8")
    assert digest_model(folder) != before


def test_an_embedder_is_an_encoder_for_other_tasks(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model")
    config = read_config(folder)
    assert target_of(config) == "vector"
    assert agreed_target(config, "class") is None
    assert longest_input(config, "vector") == 64
    assert longest_input(config, "class") == tiny.POSITIONS
    assert type(load_model(folder, labels=tiny.LABELS, target="class")).__name__ == "BertForSequenceClassification"
    with pytest.raises(ModelError, match="pre-trained encoder without a classifier"):
        load_model(folder, target="class")


def test_pooling_of_a_plain_encoder(tmp_path: Path) -> None:
    folder = tiny.write_encoder(tmp_path / "model")
    with pytest.raises(ModelError, match="does not name its pooling"):
        load_model(folder, target="vector")
    model = load_model(folder, target="vector", pooling="max")
    batch = batch_of("bert")
    np.testing.assert_allclose(torch_forward(model)(batch), expected_vectors(folder, batch, ("max",)), atol=2e-5)
    with pytest.raises(UsageError, match="says that its pooling is mean"):
        load_model(tiny.write_embedder(tmp_path / "other"), target="vector", pooling="cls")


def test_a_classifier_is_no_embedder(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "model")
    with pytest.raises(ModelError, match="predicts one class per text, not a vector"):
        load_model(folder, target="vector", pooling="mean")
    task = Task(TaskSpec.model_validate({"kind": "sentence-embedding", "text": ["text"], "train": "x.jsonl"}))
    with pytest.raises(DataError, match="needs a vector per text"):
        map_labels(read_config(folder), task, "model")


@pytest.mark.parametrize(
    ("name", "document", "message"),
    [
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "../1_Pooling"}], "not one inside of it"),
        (
            "modules.json",
            [{"type": "x.Transformer", "path": "0_T"}, {"type": "x.Pooling", "path": "1_Pooling"}],
            "lies in the folder '0_T'",
        ),
        ("modules.json", [{"type": "x.Pooling", "path": "1_Pooling"}], "are not supported"),
        ("modules.json", {"a": 1}, "no list of modules"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling 'median' is not supported"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "max_seq_length"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("config_sentence_transformers.json", {"prompts": {"a": "b"}, "default_prompt_name": "c"}, "no such prompt"),
        ("2_Dense/config.json", {"in_features": 32, "out_features": 0}, "in_features and out_features"),
        ("2_Dense/config.json", {"in_features": 32, "out_features": 8, "activation_function": "evil.Code"}, "activation Code"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, name: str, document: object, message: str) -> None:
    folder = tiny.write_embedder(tmp_path / "model", dense=12)
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        load_model(folder)
    load_model(folder, labels=tiny.LABELS, target="class")  # the encoder serves all the same


def test_dense_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model", dense=12)
    path = folder / "2_Dense" / "config.json"
    path.write_text(path.read_text().replace("12", "13"), encoding="utf-8")
    with pytest.raises(ModelError, match="do not fit its config"):
        load_model(folder)


def test_match_vectors_gives_a_student_the_size_of_its_teacher(tmp_path: Path) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "model", normalize=False))
    match_vectors(model, 20, normalized=True)
    save_model(model, copy := _new(tmp_path / "copy"), tmp_path / "model")
    again = load_model(copy)
    vectors = torch_forward(again)(batch_of("bert"))
    assert vector_size(again) == 20
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors, torch_forward(model)(batch_of("bert")), atol=1e-6)
    assert family_of(again.config.model_type).model_type == "bert"


def test_match_vectors_lets_the_length_free_if_the_teacher_does(tmp_path: Path) -> None:
    model, plain = load_model(tiny.write_embedder(tmp_path / "a")), load_model(tiny.write_embedder(tmp_path / "b", normalize=False))
    match_vectors(model, tiny.HIDDEN, normalized=False)
    np.testing.assert_array_equal(torch_forward(model)(batch_of("bert")), torch_forward(plain)(batch_of("bert")))


@pytest.mark.parametrize("mode", ["mean", "weightedmean", "mean_sqrt_len"])
def test_pooling_keeps_its_precision_in_bf16(tmp_path: Path, mode: Any) -> None:
    """The states are bfloat16 numbers, so that only pooling can lose digits."""
    model = load_model(tiny.write_embedder(tmp_path / "model", pooling=(mode,), normalize=False))
    states = torch.randn(2, 600, tiny.HIDDEN, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.ones(2, 600, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model.vectors(states, mask)  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(vectors, pooled(states.double(), mask, mode).float(), rtol=1e-4, atol=1e-5)


def test_the_weights_of_a_dense_layer_in_any_folder_count(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model", dense=12)
    (folder / "2_Dense").rename(folder / "dense")
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("2_Dense", "dense"), encoding="utf-8")
    before = digest_model(folder)
    (folder / "dense" / "model.safetensors").write_bytes(b"other")
    assert digest_model(folder) != before
    path.write_text("{}", encoding="utf-8")
    digest_model(folder)  # a damaged list of modules is reported when the model is loaded


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", ["bilstm", "static"])
def test_embedders_without_layers(kind: str, tmp_path: Path) -> None:
    """Padding does not matter; reloaded and ONNX are equal; the folder names its pooling, and another one is refused."""
    teacher = load_model(tiny.write_embedder(tmp_path / "teacher", dense=12))
    sizes: Any = LstmShape(8, 6, 10) if kind == "bilstm" else StaticShape(8, 4, 97, 10)
    if kind == "bilstm":
        model = create_bilstm(teacher, sizes, "auto")
    else:
        texts = Examples([("the dog and the soup",)] * 3, np.zeros(3, dtype=np.float32))
        model = create_static(teacher, sizes, "auto", InitTexts(texts, tmp_path / "teacher", InputSpec("vector", 32), 0))
    save_model(model, copy := _new(tmp_path / "copy"), tmp_path / "teacher")
    again, batch, data = load_model(copy), batch_of("bert"), tiny.encoded()
    vectors = torch_forward(model)(batch)
    assert vectors.shape == (6, 12)
    assert vector_size(again) == 12
    np.testing.assert_allclose(torch_forward(again)(batch), vectors, atol=1e-6)
    np.testing.assert_allclose(torch_forward(again)(data.batch(range(6), 70)), vectors, atol=1e-6)
    onnx = session_forward(open_session(build_graph(again).SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(onnx(batch), vectors, atol=5e-6)
    assert json.loads((copy / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 10
    path = copy / "1_Pooling" / "config.json"
    path.write_text(json.dumps({"pooling_mode": "max", "embedding_dimension": 10}), encoding="utf-8")
    with pytest.raises(ModelError, match="is no transformer, and its pooling is max"):
        load_model(copy)


def test_the_tokenizer_may_name_the_longest_input(tmp_path: Path) -> None:
    folder = tiny.write_embedder(tmp_path / "model")
    (folder / "sentence_bert_config.json").unlink()
    assert longest_input(read_config(folder), "vector") == tiny.POSITIONS
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 20}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert longest_input(read_config(folder), "vector") == 20
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}', encoding="utf-8")
    assert longest_input(read_config(folder), "vector") == 24
