"""Names that may be published: a path of the owner's machine becomes the name of its file or folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

_PRIVATE = re.compile(r"(?:/|~|\.\.?/|[A-Za-z]:\\).*", re.DOTALL)
_MARKDOWN = re.compile(r"[\\`*\[\]<>|&$~]|(?<![^\W_])_|_(?![^\W_])")


def public_name(reference: str) -> str:
    """Return a reference without the folders of this machine; hub ids, names of stages and relative names stay."""
    if not _PRIVATE.fullmatch(reference) and "/../" not in reference:
        return reference
    return re.split(r"[/\\]", reference.rstrip("/\\"))[-1] or "folder"


def with_public_names(value: object) -> object:
    """Return a JSON value with every string in it, and every key, as a public name."""
    if isinstance(value, str):
        return public_name(value)
    if isinstance(value, Mapping):
        return _renamed({str(key): with_public_names(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return [with_public_names(item) for item in value]
    return value


def public_names(references: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Return the public name of each reference; different references get different names.

    Args:
        references: names of stages, hub ids and paths.
        taken: names of stages. A path whose public name is one of them becomes `./NAME`, so that it is no reference to the stage.
    """
    references = list(dict.fromkeys(references))
    names = {reference: reference for reference in references if public_name(reference) == reference}
    used = {*taken, *names}
    for reference in references:
        if reference not in names:
            base, number = public_name(reference), 2
            base = f"./{base}" if any(base == name or base.startswith(f"{name} (") for name in taken) else base
            name = base
            while name in used:
                name, number = f"{base} ({number})", number + 1
            names[reference] = name
            used.add(name)
    return {reference: names[reference] for reference in references}


def _renamed(document: Mapping[str, object]) -> dict[str, object]:
    """Return the document with public keys; keys that become equal are numbered."""
    names = public_names(document)
    return {names[key]: item for key, item in document.items()}


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line: its special characters are escaped."""
    return _MARKDOWN.sub(lambda special: "\\" + special[0], " ".join(text.split()))


def markdown_code(text: str) -> str:
    """Return a text as inline code, on one line."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"
