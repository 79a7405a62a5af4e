"""The model card's lines for other clients of embedders and rerankers: sentence-transformers, fastembed, servers and browsers.

`eval/clients.py` and its tests execute these lines, in environments of their own. They run in the model's folder, have no placeholders,
and leave their result in `vectors` or `scores`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from compress.models.layout import GRAPH

TEXTS = ["The new phone lasts two days.", "Its battery holds out for 48 hours."]
QUERY, PASSAGES = "How long does the battery last?", ["The new phone lasts two days.", "The bridge opened in 1932."]
PY_TEXTS = f"texts = {json.dumps(TEXTS)}"
PY_PAIRS = f"query, passages = {json.dumps(QUERY)}, {json.dumps(PASSAGES)}"


@dataclass(frozen=True)
class ClientModel:
    """What the clients must be told of a model.

    Attributes:
        reranker: it scores pairs; else it is an embedder.
        graph: file of its graph; None: a checkpoint in PyTorch.
        layout: the client that its folder is laid out for.
        token_vectors: its graph has the vectors of all tokens, too.
        size: of a vector.
        max_length: longest input in tokens.
        prompt: the name and the text of what its folder puts before every input.
        known_family: transformers, whose config the other clients read, knows its family.
    """

    reranker: bool
    graph: str | None
    layout: str = "compress"
    token_vectors: bool = True
    size: int = 0
    max_length: int = 512
    prompt: tuple[str, str] = ("", "")
    known_family: bool = True


def client_lines(model: ClientModel) -> list[str]:
    """Return the paragraphs and blocks of code of every client that opens the folder."""
    return [line for title, language, code in _blocks(model) for line in (f"{title}\n", f"```{language}\n{code}\n```\n")]


def _blocks(model: ClientModel) -> Iterator[tuple[str, str, str]]:
    """Yield title, language and code."""
    if model.known_family and (model.graph is None or model.reranker or model.token_vectors):
        yield "With sentence-transformers:" if model.graph is None else _ST_ONNX, "python", _sentence_transformers(model)
    if model.graph is None:
        return
    yield "With fastembed:", "python", _fastembed_reranker(model) if model.reranker else _fastembed(model)
    if not model.known_family:
        return
    if model.layout == "text-embeddings-inference":
        prompt = f" --default-prompt-name {model.prompt[0]}" if model.prompt[0] else ""
        yield "With text-embeddings-inference:", "sh", f"text-embeddings-router --model-id .{prompt}"
    if model.layout == "transformers.js":
        yield "With transformers.js, in this folder:", "js", _transformers_js(model)


_ST_ONNX = "With sentence-transformers and its ONNX backend (`pip install 'sentence-transformers[onnx]'`):"


def _sentence_transformers(model: ClientModel) -> str:
    kind = "CrossEncoder" if model.reranker else "SentenceTransformer"
    options = ""
    if model.graph is not None:
        options = ', backend="onnx"'
        if model.graph.rpartition("/")[2] != GRAPH:
            options += f', model_kwargs={{"file_name": {json.dumps(model.graph)}}}'
    elif model.reranker:
        options = f", max_length={model.max_length}"
    run = "scores = model.predict([(query, passage) for passage in passages])" if model.reranker else "vectors = model.encode(texts)"
    lines = [f"from sentence_transformers import {kind}", "", PY_PAIRS if model.reranker else PY_TEXTS]
    return "\n".join([*lines, f'model = {kind}("."{options})', run, f"print({'scores' if model.reranker else 'vectors.shape'})"])


def _fastembed(model: ClientModel) -> str:
    name, prompt = json.dumps(model.graph), model.prompt[1]
    given = f"[{json.dumps(prompt, ensure_ascii=False)} + text for text in texts]" if prompt else "texts"
    return f"""from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

{PY_TEXTS}
here = {{"sources": ModelSource(url="."), "model_file": {name}, "output_name": "sentence_embedding"}}
TextEmbedding.add_custom_model("local", pooling=PoolingType.DISABLED, normalization=False, dim={model.size}, **here)
model = TextEmbedding("local", specific_model_path=".")
vectors = list(model.embed({given}))
print(vectors[0].shape)"""


def _fastembed_reranker(model: ClientModel) -> str:
    return f"""from fastembed.common.model_description import ModelSource
from fastembed.rerank.cross_encoder import TextCrossEncoder

{PY_PAIRS}
TextCrossEncoder.add_custom_model("local", sources=ModelSource(url="."), model_file={json.dumps(model.graph)})
model = TextCrossEncoder("local", specific_model_path=".")
scores = list(model.rerank(query, passages))  # logits: no activation is applied
print(scores)"""


def _transformers_js(model: ClientModel) -> str:
    dtypes = {"model_quantized.onnx": "q8", "model_fp16.onnx": "fp16", "model_q4.onnx": "q4"}
    dtype = dtypes.get(str(model.graph).rpartition("/")[2], "fp32")
    kind = "AutoModelForSequenceClassification" if model.reranker else "AutoModel"
    prompt = f".map((text) => {json.dumps(model.prompt[1], ensure_ascii=False)} + text)" if model.prompt[1] else ""
    given = f"const texts = {json.dumps(TEXTS)};"
    inputs = f"texts{prompt}, {{ padding: true, truncation: true }}"
    result = "const { sentence_embedding: vectors } = await model(inputs);\nconsole.log(vectors.dims);"
    if model.reranker:
        given = f"const query = {json.dumps(QUERY)}, passages = {json.dumps(PASSAGES)};"
        inputs = "passages.map(() => query), { text_pair: passages, padding: true, truncation: true, return_token_type_ids: true }"
        result = "const { logits: scores } = await model(inputs);\nconsole.log(scores.tolist());"
    return f"""import {{ {kind}, AutoTokenizer }} from "@huggingface/transformers";

{given}
const tokenizer = await AutoTokenizer.from_pretrained("./");
const model = await {kind}.from_pretrained("./", {{ dtype: "{dtype}" }});
const inputs = await tokenizer({inputs});
{result}"""
