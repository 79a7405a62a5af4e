"""Read and write the files that describe an embedder's head, in the layout of sentence-transformers. No torch in this module.

`modules.json` lists the modules; `1_Pooling/config.json` and those of dense layers describe them; `sentence_bert_config.json` has the
longest input, `config_sentence_transformers.json` prompts and similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from compress.core import files
from compress.core.errors import ModelError
from compress.core.files import Document
from compress.data.input_spec import POOLINGS, Pooling
from compress.models.sentence_head import DENSE_ACTIVATIONS, NORMALIZE, DenseStep, SentenceHead, Step

MODULES = "modules.json"
PROMPTS_FILE = "config_sentence_transformers.json"
LENGTH_FILES = tuple(  # the first one counts; early versions named it after the family
    f"sentence_{family}_config.json" for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
MAX_BYTES = 1 << 20
MODE_NAMES: dict[str, Pooling] = {  # in Pooling's config, in the order in which their vectors are concatenated
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
LONG_NAME = "mean_sqrt_len_tokens"  # of mean_sqrt_len, in newer configs
TYPES = "sentence_transformers.models."  # of the modules that we write; every version knows these


def read_sentence_head(folder: Path) -> SentenceHead | ModelError | None:
    """Return the head of a folder; None if it has no `modules.json` with a pooling.

    An embedder that compress does not compute is returned as the error to raise when it is used as one: as a pre-trained encoder it
    may serve nevertheless.
    """
    if not (folder / MODULES).is_file():
        return None
    try:
        modules = _modules(folder)
        return _head(folder, modules) if any(kind == "Pooling" for kind, _ in modules) else None
    except ModelError as error:
        return error


def sentence_files(folder: Path) -> list[Path]:
    """Return the files that decide an embedder's vectors, apart from encoder and tokenizer; none for other folders."""
    if not (folder / MODULES).is_file():
        return []
    try:
        places = sorted({place for _, place in _modules(folder) if place})
    except ModelError:  # it is no embedder then
        places = []
    candidates = [folder / name for name in (MODULES, *LENGTH_FILES, PROMPTS_FILE)]
    candidates += [folder / place / name for place in places for name in ("config.json", "model.safetensors")]
    return [path for path in candidates if path.is_file()]


def dense_folders(folder: Path) -> list[Path]:
    """Return the folders of an embedder's dense layers, in their order."""
    return [folder / path for kind, path in _modules(folder) if kind == "Dense"] if (folder / MODULES).is_file() else []


def step_folder(number: int, step: Step) -> str:
    """Return the name of the folder of step `number` (from 0), as we write it."""
    return f"{number + 2}_{'Normalize' if step == NORMALIZE else 'Dense'}"


def write_sentence_head(folder: Path, head: SentenceHead, hidden: int) -> None:
    """Write the files of a head, without the weights of dense layers; `hidden` is the width of the encoder."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    files.write_json(folder / "1_Pooling" / "config.json", _pooling_document(head, hidden))
    for number, step in enumerate(head.steps):
        name = step_folder(number, step)
        modules.append((name, name.partition("_")[2]))
        (folder / name).mkdir(exist_ok=True)
        if isinstance(step, DenseStep):
            document = {"in_features": step.in_features, "out_features": step.out_features, "bias": step.bias}
            activation = "linear.Identity" if step.activation == "Identity" else f"activation.{step.activation}"
            document["activation_function"] = f"torch.nn.modules.{activation}"
            files.write_json(folder / name / "config.json", document)
    entries = [{"idx": i, "name": str(i), "path": path, "type": TYPES + kind} for i, (path, kind) in enumerate(modules)]
    files.write_json(folder / MODULES, entries)
    if head.max_length is not None:
        files.write_json(folder / LENGTH_FILES[0], {"max_seq_length": head.max_length, "do_lower_case": False})
    settings = {"prompts": dict(head.prompts), "default_prompt_name": head.default_prompt, "similarity_fn_name": head.similarity}
    files.write_json(folder / PROMPTS_FILE, {key: value for key, value in settings.items() if value is not None})


def _pooling_document(head: SentenceHead, hidden: int) -> Document:
    """Return the config of a pooling: in the form that every version reads, unless the order of its modes is another."""
    ordered = [mode for mode in MODE_NAMES.values() if mode in head.pooling]
    if ordered == list(head.pooling):
        return {
            "word_embedding_dimension": hidden,
            **{key: mode in head.pooling for key, mode in MODE_NAMES.items()},
            "include_prompt": True,
        }
    return {"embedding_dimension": hidden, "pooling_mode": [LONG_NAME if mode == "mean_sqrt_len" else mode for mode in head.pooling]}


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return the class name and the folder of each module.

    Raises:
        ModelError: `modules.json` is damaged, or names a folder elsewhere.
    """
    path = folder / MODULES
    entries = _read(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and isinstance(entry.get("type"), str) for entry in entries):
        raise ModelError(f"{path} is no list of modules with their types")
    modules = []
    for entry in entries:
        place = entry.get("path", "")
        parts = PurePosixPath(place).parts if isinstance(place, str) else ("..",)
        if len(parts) > 1 or ".." in parts or (parts and parts[0].startswith(("/", "\\"))):
            raise ModelError(f"{path} names the folder {place!r}, which is not one inside of it")
        modules.append((entry["type"].rpartition(".")[2], place))
    return modules


def _head(folder: Path, modules: Sequence[tuple[str, str]]) -> SentenceHead:
    """Return the head that a list of modules describes.

    Raises:
        ModelError: a module or a setting that compress does not compute.
    """
    path, kinds = folder / MODULES, [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Pooling") > 1:
        raise ModelError(
            f"{path}: the modules {', '.join(kinds)} are not supported", "supported: Transformer, Pooling, then Dense and Normalize"
        )
    if modules[0][1]:
        raise ModelError(
            f"{path}: the encoder lies in the folder '{modules[0][1]}', which is not supported",
            f"give {folder / modules[0][1]} and its --pooling instead",
        )
    steps: list[Step] = []
    for kind, place in modules[2:]:
        if kind == "Normalize":
            steps.append(NORMALIZE)
        elif kind == "Dense":
            steps.append(_dense(folder / place / "config.json"))
        else:
            raise ModelError(f"{path}: the module {kind} is not supported", "supported: Transformer, Pooling, Dense, Normalize")
    length_file = next((folder / name for name in LENGTH_FILES if (folder / name).is_file()), folder / LENGTH_FILES[0])
    length, settings = _read_optional(length_file), _read_optional(folder / PROMPTS_FILE)
    if length.get("do_lower_case") is True:
        raise ModelError(f"{length_file}: do_lower_case is not supported", "set it in tokenizer_config.json, where tokenizers look")
    longest, prompts = length.get("max_seq_length") or _longest_of_tokenizer(folder), settings.get("prompts") or {}
    if longest is not None and not (isinstance(longest, int) and not isinstance(longest, bool) and 4 <= longest <= 1_000_000):
        raise ModelError(f"{length_file}: max_seq_length is {longest!r}, not a whole number from 4")
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelError(f"{folder / PROMPTS_FILE}: prompts do not map names to texts")
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelError(f"{folder / PROMPTS_FILE}: default_prompt_name is {default!r}, and there is no such prompt")
    similarity = settings.get("similarity_fn_name")
    pooling = _pooling(folder / modules[1][1] / "config.json", bool(prompts))
    return SentenceHead(pooling, tuple(steps), longest, similarity if isinstance(similarity, str) else None, prompts, default)


def _longest_of_tokenizer(folder: Path) -> int | None:
    """Return the longest input that the tokenizer's settings name; sentence-transformers takes it where it finds no `max_seq_length`."""
    named = _read_optional(folder / "tokenizer_config.json").get("model_max_length")
    return named if isinstance(named, int) and not isinstance(named, bool) and 4 <= named <= 1_000_000 else None


def _pooling(path: Path, has_prompts: bool) -> tuple[Pooling, ...]:
    """Return the modes of a pooling, in the order in which their vectors are concatenated."""
    document = _read_object(path)
    named = document.get("pooling_mode")
    if named is None:
        modes = [mode for key, mode in MODE_NAMES.items() if document.get(key)] or ["mean"]
    else:
        modes = ["mean_sqrt_len" if mode == LONG_NAME else mode for mode in (named if isinstance(named, list) else [named])]
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown or not modes:
        raise ModelError(f"{path}: the pooling {(unknown or ['?'])[0]!r} is not supported", f"supported: {', '.join(POOLINGS)}")
    if has_prompts and document.get("include_prompt") is False:
        raise ModelError(f"{path}: prompts that are not pooled (include_prompt false) are not supported")
    return tuple(modes)  # pyright: ignore[reportReturnType] (checked above)


def _dense(path: Path) -> DenseStep:
    """Return a dense layer as its config describes it."""
    document = _read_object(path)
    sizes = [document.get(key) for key in ("in_features", "out_features")]
    if not all(isinstance(size, int) and 1 <= size <= 65_536 for size in sizes):
        raise ModelError(f"{path}: in_features and out_features are {sizes[0]!r} and {sizes[1]!r}, not whole numbers from 1")
    activation = str(document.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in DENSE_ACTIVATIONS:
        raise ModelError(f"{path}: the activation {activation} is not supported", f"supported: {', '.join(DENSE_ACTIVATIONS)}")
    names = [document.get(key, "sentence_embedding") for key in ("module_input_name", "module_output_name")]
    if document.get("use_residual") or any(name not in (None, "sentence_embedding") for name in names):
        raise ModelError(f"{path}: a dense layer with a residual or with other inputs than the sentence's vector is not supported")
    return DenseStep(document["in_features"], document["out_features"], bool(document.get("bias", True)), activation)


def _read(path: Path) -> object:
    try:
        return files.read_json(path, limit=MAX_BYTES)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {(str(error).splitlines() or ['?'])[0]}") from error


def _read_object(path: Path) -> Document:
    document = _read(path)
    if not isinstance(document, dict):
        raise ModelError(f"{path} is not a JSON object")
    return document


def _read_optional(path: Path) -> Document:
    return _read_object(path) if path.is_file() else {}
