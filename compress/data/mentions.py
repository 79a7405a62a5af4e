"""Mention pairs: which of two names in a text a pronoun means, or neither, in the layout of GAP (Webster et al. 2018, arXiv 1810.05201).

A model sees the text with its three mentions marked, as Baldini Soares et al. 2019 (arXiv 1906.03158, section 3.2) mark entities: `* she *`
and `# Ada Lovelace #`. The marks are ordinary tokens of every vocabulary, as in Zhou and Chen 2022 (arXiv 2102.01373, section 3.1), so that
nothing is added to the embeddings. Both names have the same mark: swapping them changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from compress.core.errors import DataError, did_you_mean
from compress.data.cells import is_missing, shorten
from compress.data.encoded import IGNORED, Encoded
from compress.data.examples import Examples
from compress.data.sources import Source
from compress.data.streamed import Texts
from compress.data.tokenizing import encode_batch

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MentionPair = Mapping[str, object]  # a text, its pronoun and two names, with their offsets: the keys are `INPUT_COLUMNS`
MENTIONS = ("pronoun", "a", "b")
NAMES = MENTIONS[1:]
INPUT_COLUMNS = ("text", *(column for mention in MENTIONS for column in (mention, f"{mention}_offset")))
LABEL_COLUMNS = ("a_coref", "b_coref")
MARKS = {"pronoun": "*", "a": "#", "b": "#"}
CHOICES = ("A", "B", "neither")
NEITHER = CHOICES.index("neither")
TOKEN_NAMES = ["other", "antecedent"]  # of a model's two logits for each token
CHOICE, GENDER, WIDTH = 6, 7, 8  # columns of the labels, after the first character and the end of pronoun, A and B in the marked text
UNKNOWN, MASCULINE, FEMININE = range(3)
GENDERS = {  # as GAP's scorer knows them
    **dict.fromkeys(("he", "him", "his"), MASCULINE),
    **dict.fromkeys(("she", "her", "hers"), FEMININE),
}
NO_PLACE = -1  # of a token outside of both names
COUNTED = (
    "offsets count characters (Unicode code points) from 0, as in GAP's files: were they counted in bytes, or the texts changed since?"
)


def mention_columns(source: Source, columns: Sequence[str] = (*INPUT_COLUMNS, *LABEL_COLUMNS)) -> list[str]:
    """Return what a source calls these columns: `Pronoun-offset`, as in GAP's files, is `pronoun_offset`.

    Raises:
        DataError: a column is missing, or there are no rows.
    """
    names = source.column_names(columns)
    if not names:
        raise DataError(f"{source.where} has no rows")
    known = {name.strip().lower().replace("-", "_"): name for name in names}
    for column in columns:
        if column not in known:
            raise DataError(
                f"{source.where} has no column '{column}'{did_you_mean(column, known)}; it has: {shorten(names)}",
                f"coreference reads GAP's columns, in any case and with - or _: {', '.join(columns)}",
            )
    return [known[column] for column in columns]


def read_mentions(source: Source, labeled: bool = True) -> Examples:
    """Read mention pairs: marked texts, and labels as `Examples` describes them.

    Args:
        source: of the rows.
        labeled: read which name is the antecedent; otherwise neither is.

    Raises:
        DataError: no rows, a column is missing, a mention that does not stand at its offset, or two antecedents; the message names the row.
    """
    keys = (*INPUT_COLUMNS, *(LABEL_COLUMNS if labeled else ()))
    columns = mention_columns(source, keys)
    rows: list[dict[str, object]] = []
    for batch in source.batches(columns):
        rows += [dict(zip(keys, values, strict=True)) for values in zip(*(batch[column] for column in columns), strict=True)]
    if not rows:
        raise DataError(f"{source.where} has no rows")
    return _examples([_example(row, f"row {number} of {source.where}", labeled) for number, row in enumerate(rows, start=1)])


def mention_examples(inputs: Sequence[object]) -> Examples:
    """Return unlabeled mention pairs: mappings with the keys `INPUT_COLUMNS`, or the same as JSON.

    Raises:
        DataError: something else, or a mention that does not stand at its offset.
    """
    return _examples([_example(_mapping(entry, number), f"input {number}", False) for number, entry in enumerate(inputs, start=1)])


def _examples(rows: Sequence[tuple[str, np.ndarray]]) -> Examples:
    return Examples([(text,) for text, _ in rows], np.stack([label for _, label in rows]))


def _mapping(entry: object, number: int) -> Mapping[str, object]:
    """Return an input as a mapping with the keys in lower case."""
    if isinstance(entry, str):
        try:
            entry = json.loads(entry)
        except ValueError:
            entry = None
    keys = {str(key).lower().replace("-", "_"): value for key, value in entry.items()} if isinstance(entry, Mapping) else {}
    lacking = [column for column in INPUT_COLUMNS if column not in keys]
    if lacking:
        raise DataError(
            f"input {number} has no '{lacking[0]}': this model says which of two names a pronoun means",
            f"give a JSON object with the keys {', '.join(INPUT_COLUMNS)}",
        )
    return keys


def _example(row: Mapping[str, object], where: str, labeled: bool) -> tuple[str, np.ndarray]:
    """Return the marked text of a row, and its label, (8,) int64."""
    text = row["text"]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where} has no text")
    places = {mention: _place(text, row, mention, where) for mention in MENTIONS}
    order = sorted(MENTIONS, key=lambda mention: places[mention])
    for first, second in pairwise(order):
        if places[first][1] > places[second][0]:
            raise DataError(f"{where}: the mentions '{first}' and '{second}' overlap", "give three mentions that share no character")
    label = np.empty(WIDTH, dtype=np.int64)
    marked, end = "", 0
    for mention in order:
        start, stop = places[mention]
        marked += f"{text[end:start]}{MARKS[mention]} "
        column = 2 * MENTIONS.index(mention)
        label[column : column + 2] = len(marked), len(marked) + stop - start
        marked += f"{text[start:stop]} {MARKS[mention]}"
        end = stop
    label[CHOICE] = _choice(row, where) if labeled else NEITHER
    label[GENDER] = GENDERS.get(str(row["pronoun"]).lower(), UNKNOWN)
    return marked + text[end:], label


def _place(text: str, row: Mapping[str, object], mention: str, where: str) -> tuple[int, int]:
    """Return the first character of a mention and its end, checked."""
    name, start = row[mention], _whole(row[f"{mention}_offset"])
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: the mention '{mention}' has no text")
    if start is None:
        raise DataError(f"{where}: {mention}_offset is {shorten([str(row[f'{mention}_offset'])])}, not a whole number")
    if not 0 <= start <= len(text) - len(name):
        raise DataError(f"{where}: {mention}_offset is {start}, outside of a text of {len(text)} characters", COUNTED)
    if not text.startswith(name, start):
        name_there = text[start : start + len(name)]
        raise DataError(f"{where}: at character {start} of the text stands {name_there[:60]!r}, not the {mention} {name[:60]!r}", COUNTED)
    return start, start + len(name)


def _whole(value: object) -> int | None:
    """Return a whole number, also as text; None if it is something else."""
    if isinstance(value, bool) or is_missing(value) or not isinstance(value, str | int | float | np.integer | np.floating):
        return None
    try:
        return int(value) if not isinstance(value, float | np.floating) or value == int(value) else None
    except (ValueError, OverflowError):
        return None


def _choice(row: Mapping[str, object], where: str) -> int:
    """Return the number of the choice of a row.

    Raises:
        DataError: both names are antecedents, or a cell is neither true nor false.
    """
    truths = {"true": True, "1": True, "false": False, "0": False}
    values = [truths.get(str(row[column]).strip().lower().removesuffix(".0")) for column in LABEL_COLUMNS]
    for column, value in zip(LABEL_COLUMNS, values, strict=True):
        if value is None:
            raise DataError(f"{where}: {column} is {str(row[column])[:60]!r}, neither TRUE nor FALSE")
    if all(values):
        raise DataError(
            f"{where} marks both names as the antecedent",
            "a pronoun means one of the two names or neither: two names of one person are no choice",
        )
    return values.index(True) if any(values) else NEITHER


def encode_mentions(tokenizer: Tokenizer, texts: Sequence[Texts], labels: np.ndarray, max_length: int, pad_id: int) -> Encoded:
    """Tokenize marked texts. Of a text longer than `max_length` the tokens nearest to a mention are kept, in their order.

    The label of a token of A or B is whether that name is the antecedent; other tokens have none (-100). `places` is 0 for tokens of A,
    1 for those of B, -1 for others.

    Args:
        tokenizer: of the model; it truncates nothing.
        texts: marked, one per example.
        labels: (n, 8) int64, see `Examples`.
        max_length: tokens of an input, special tokens included.
        pad_id: id of the padding token.
    """
    ids, types, tags, places = [], [], [], []
    for encoding, label in zip(encode_batch(tokenizer, [text for (text,) in texts]), labels, strict=True):
        of_mention = _mention_of_token(encoding, label)
        kept = _nearest(of_mention, np.array(encoding.special_tokens_mask, dtype=bool), max_length)
        place = np.maximum(of_mention[kept] - 1, NO_PLACE)  # of pronoun, A and B -1, 0 and 1
        place[of_mention[kept] < 0] = NO_PLACE
        ids.append(np.array(encoding.ids, dtype=np.int64)[kept])
        types.append(np.array(encoding.type_ids, dtype=np.int64)[kept])
        tags.append(np.where(place >= 0, place == label[CHOICE], IGNORED))
        places.append(place)
    return Encoded(ids, types, tags, pad_id, np.arange(len(ids)), places)


def _mention_of_token(encoding: Encoding, label: np.ndarray) -> np.ndarray:
    """Return 0, 1 or 2 for tokens of pronoun, A or B, and -1 for others, (tokens,)."""
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    mention = np.full(len(offsets), NO_PLACE, dtype=np.int64)
    for number, (start, end) in enumerate(label[:CHOICE].reshape(-1, 2)):
        mention[(offsets[:, 1] > start) & (offsets[:, 0] < end)] = number
    mention[np.array(encoding.special_tokens_mask, dtype=bool)] = NO_PLACE
    return mention


def _nearest(of_mention: np.ndarray, special: np.ndarray, count: int) -> np.ndarray:
    """Return the ascending positions of the special tokens and of those nearest to a mention, `count` at most."""
    if len(special) <= count:
        return np.arange(len(special))
    mentions = np.flatnonzero(of_mention >= 0)
    positions = np.arange(len(special))
    distance = np.abs(positions[:, None] - mentions).min(axis=1) if len(mentions) else positions
    return np.sort(np.argsort(np.where(special, -1, distance), kind="stable")[:count])


def mention_scores(logits: np.ndarray, data: Encoded) -> np.ndarray:
    """Return a score for A, B and neither of each example, (n, 3): of a name the mean margin of its tokens, of neither 0.

    The margin is the logit of `antecedent` minus that of `other`. A name without tokens scores -inf.

    Args:
        logits: (tokens of all inputs, 2).
        data: from `encode_mentions`.
    """
    margins = logits[:, 1] - logits[:, 0]
    scores = np.zeros((len(data), len(CHOICES)), dtype=np.float64)
    places = np.concatenate(data.places) if data.places else np.zeros(0, dtype=np.int64)
    owners = np.repeat(np.arange(len(data)), data.lengths)
    for number in range(len(NAMES)):
        own = places == number
        count = np.bincount(owners[own], minlength=len(data))
        total = np.bincount(owners[own], weights=margins[own], minlength=len(data))
        scores[:, number] = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    return scores


def antecedent_name(text: str, label: np.ndarray, choice: int) -> str:
    """Return the name of a choice, as it stands in a marked text; empty for neither."""
    if choice == NEITHER:
        return ""
    start, end = label[2 + 2 * choice : 4 + 2 * choice]
    return text[start:end]
