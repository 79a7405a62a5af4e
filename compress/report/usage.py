"""The model card's code: a few lines that run the model, with and without compress, for every kind of task.

A test executes these lines. They have no placeholders and run in the model's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from compress.data.input_spec import Activation, InputSpec, Target

TEXT, OTHER = "The new phone lasts two days.", "Its battery holds out for 48 hours."
QUESTION, CONTEXT = "When did it open?", "The bridge opened in 1932, after eight years of work."
MENTION_PAIR = {
    "text": "Ada Lovelace met Mary Somerville when she was seventeen.",
    **{"pronoun": "she", "pronoun_offset": 38, "a": "Ada Lovelace", "a_offset": 0, "b": "Mary Somerville", "b_offset": 17},
}
MARKED = "# Ada Lovelace # met # Mary Somerville # when * she * was seventeen."
WORDS = ["The", "bridge", "opened", "in", "Sydney", "."]

BY_LOADING = 'import compress\n\nmodel = compress.load_model(".")  # a torch.nn.Module; its tokenizer is in the same folder\n'
BY_COMPRESS: dict[Target, str] = {
    "class": """answer = model({given})
print(answer.label, answer.score)""",
    "labels": """answer = model({given})  # labels with a probability above 0.5
print([(entry.label, entry.score) for entry in answer])""",
    "value": """answer = model({given})
print(answer.value)""",
    "tags": """answer = model(({given}))  # words, or one text, which is split into words
print([(entry.word, entry.label) for entry in answer])""",
    "span": """answer = model(({given}))  # question, context
print(answer.text, answer.score, answer.start, answer.end)""",
    "vector": """answer = model({given})
print(answer.vector.shape, answer.vector[:4])""",
    "mentions": """answer = model({given})
print(answer.label, answer.name, answer.scores)""",
}

INPUT: dict[Target, str] = {
    "tags": "words = [{given}]",
    "span": "question, context = {given}",
    "mentions": f"text = {json.dumps(MARKED)}  # the marked mentions",
}
ENCODE: dict[Target, str] = {"tags": '[" " + word for word in words], is_pretokenized=True', "span": "question, context"}
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}  # attribute of an encoding, by graph input
VALUES: dict[Activation, str] = {"none": "logits[0, 0]", "sigmoid": "1 / (1 + np.exp(-logits[0, 0]))"}
RUN: dict[Target, str] = {
    "span": 'start, end = session.run(["start_logits", "end_logits"], {batch})',
    "vector": '(vectors,) = session.run(["sentence_embedding"], {batch})',
}

LABELS = 'labels = json.load(open("config.json")).get("id2label", {{}})'
DECODE: dict[Target, str] = {
    "class": f"""{LABELS}
shares = np.exp(logits[0] - logits.max()) / np.exp(logits[0] - logits.max()).sum()
answer = labels.get(str(shares.argmax()), shares.argmax())
print(answer, shares.max())""",
    "labels": f"""{LABELS}
shares = 1 / (1 + np.exp(-logits[0]))
answer = [labels.get(str(number), number) for number, share in enumerate(shares) if share > 0.5]
print(answer, shares)""",
    "value": """answer = float({value})
print(answer)""",
    "tags": f"""{LABELS}
tags = {{{{}}}}
for token, word in enumerate(encoding.word_ids):
    if word is not None and word not in tags:  # a word's tag is that of its first token
        tags[word] = labels.get(str(logits[0, token].argmax()))
answer = [(words[word], tag) for word, tag in tags.items()]
print(answer)""",
    "span": """in_context = np.array([sequence == 1 for sequence in encoding.sequence_ids])  # the tokens of the context
pairs = np.where(in_context[:, None] & in_context, start[0][:, None] + end[0], -np.inf)
pairs[np.tril(np.ones_like(pairs), -1) + np.triu(np.ones_like(pairs), {max_answer}) > 0] = -np.inf  # reversed or too long
begin, last = np.unravel_index(pairs.argmax(), pairs.shape)
answer = context[encoding.offsets[begin][0] : encoding.offsets[last][1]]{no_answer}
print(answer)""",
    "vector": """answer = vectors[0]
print(answer.shape, answer[:4])""",
    "mentions": """margins, scores = logits[0, :, 1] - logits[0, :, 0], {{"neither": 0.0}}
for label, name in {{"A": "Ada Lovelace", "B": "Mary Somerville"}}.items():
    start = text.index(name)
    tokens = [i for i, (first, end) in enumerate(encoding.offsets) if end > start and first < start + len(name)]
    scores[label] = float(margins[tokens].mean())
answer = max(scores, key=lambda label: scores[label])
print(answer, scores)""",
}


def example(target: Target, columns: int) -> list[str]:
    """Return the texts of an example, as literals: one or two texts, words, a question with its context, or a mention pair."""
    if target == "mentions":
        return [json.dumps(MENTION_PAIR)]
    columns = 1 if target == "vector" else columns
    texts = {"tags": WORDS, "span": [QUESTION, CONTEXT]}.get(target, [TEXT, OTHER][:columns])
    return [json.dumps(text) for text in texts]


def by_compress(target: Target, columns: int) -> str:
    """Return the lines that run an ONNX artifact with compress."""
    given = ", ".join(example(target, columns))
    pair = target not in ("tags", "span", "vector") and columns > 1
    return f'import compress\n\nmodel = compress.load_onnx(".")\n{BY_COMPRESS[target].format(given=f"({given})" if pair else given)}\n'


def by_onnxruntime(
    input_spec: InputSpec, columns: int, names: Sequence[str], disabled_optimizers: Sequence[str], session_config: Mapping[str, str],
    basic: bool = False, direction: str = "right", split_special_tokens: bool = False, spaced: bool = True, graph: str = "model.onnx",
    prompt: str = "",
) -> str:  # fmt: skip
    """Return the five lines from an input to logits with onnxruntime, tokenizers and numpy only, with their imports.

    `names` are the graph's inputs; `basic` is for artifacts that run with basic graph optimizations; `direction` is the side on which
    long texts are cut; with `split_special_tokens` the names of special tokens in a text are read as text; `spaced` is for tokenizers
    that tell words by the space before them; `graph` is its file; `prompt`
    comes before every text.
    """
    target = input_spec.target
    only = ', strategy="only_second"' if target == "span" else ""
    only += f', direction="{direction}"' if direction != "right" else ""
    pair = columns > 1 and target != "vector"
    encoded = ENCODE.get(target, "text, other" if pair else "text") if spaced or target != "tags" else "words, is_pretokenized=True"
    options = ["options = onnxruntime.SessionOptions()"] if session_config or basic else []
    options += ["options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC"] if basic else []
    options += [f"options.add_session_config_entry({json.dumps(key)}, {json.dumps(str(value))})" for key, value in session_config.items()]
    arguments = [json.dumps(graph)] + (["options"] if options else [])
    arguments += [f"disabled_optimizers={json.dumps(list(disabled_optimizers))}"] if disabled_optimizers else []
    given = ", ".join(example(target, columns))
    if prompt:
        given = f"{json.dumps(prompt, ensure_ascii=False)} + {given}  # the model's prompt, before every text"
    batch = "{" + ", ".join(f'"{name}": np.array([encoding.{FIELDS[name]}])' for name in names) + "}"
    return "\n".join(
        [
            "import numpy as np\nimport onnxruntime\nfrom tokenizers import Tokenizer\n",
            INPUT.get(target, "text, other = {given}" if pair else "text = {given}").format(given=given),
            "",
            *options,
            'tokenizer = Tokenizer.from_file("tokenizer.json")',
            *(["tokenizer.encode_special_tokens = True"] if split_special_tokens else []),
            f"tokenizer.enable_truncation({input_spec.max_length}{only})",
            f"session = onnxruntime.InferenceSession({', '.join(arguments)})",
            f"encoding = tokenizer.encode({encoded})",
            RUN.get(target, '(logits,) = session.run(["logits"], {batch})').format(batch=batch),
            "",
        ]
    )


def by_numpy(input_spec: InputSpec) -> str:
    """Return the lines that compute the prediction from the logits of `by_onnxruntime`."""
    threshold = f" + {input_spec.null_threshold:g}" if input_spec.null_threshold else ""
    no_answer = f' if start[0][0] + end[0][0] <= pairs.max(){threshold} else ""' if input_spec.no_answer else ""
    value = VALUES[input_spec.activation]
    lines = DECODE[input_spec.target].format(max_answer=input_spec.max_answer, no_answer=no_answer, value=value)
    return f"import json\n\n{lines}\n" if "json." in lines else f"{lines}\n"
