"""mkdocs hooks: pages of the site may link to any file of the repository.

A link from `docs/` to a file outside it, such as `../compress/api.py`, works on a code host but not in a site that holds
`docs/` alone. So every linked file becomes a page below `repository/` (Markdown as it is, other files as a code block, a
folder as a list), and the links are rewritten to these pages. The site needs no server and no other host.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = "docs/"
REPOSITORY = "repository/"
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
FENCED = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "sh", ".html": "html"}


def on_config(config: MkDocsConfig) -> None:
    """Replace each folder in the navigation by its pages, in the order of their names."""
    config.nav = _expanded(config.nav)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for every repository file that a page of `docs/` or of the navigation links to, directly or not."""
    pending = [DOCS + file.src_uri for file in files.documentation_pages()]
    pending += [path.removeprefix(REPOSITORY) for path in _paths(config.nav) if path.startswith(REPOSITORY)]
    seen: set[str] = set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        if not _is_in_site(path):
            files.append(File.generated(config, _site_uri(path), content=_content(path)))
        if path.endswith(".md"):
            pending += [target for target in _targets(path) if not _is_in_site(target)]


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Rewrite the links of a page to the places that their targets have in the site."""
    uri = page.file.src_uri
    source = _repository_path(uri)

    def rewritten(link: str) -> str:
        path, mark, anchor = link.partition("#")
        target = _resolve(source, path)
        if target is None:
            return link
        return posixpath.relpath(_site_uri(target), posixpath.dirname(uri) or ".") + mark + anchor

    return _map_links(markdown, rewritten)


def _expanded(items: list) -> list:
    result = []
    for item in items:
        if isinstance(item, dict):
            result += [{title: _expanded(value) if isinstance(value, list) else value} for title, value in item.items()]
        elif item.endswith("/"):
            result += sorted(path.relative_to(ROOT / DOCS).as_posix() for path in (ROOT / DOCS / item).glob("*.md"))
        else:
            result.append(item)
    return result


def _paths(items: list) -> Iterator[str]:
    for item in items:
        if isinstance(item, dict):
            for value in item.values():
                yield from _paths(value if isinstance(value, list) else [value])
        else:
            yield item


def _site_uri(path: str) -> str:
    """Return the source path of the page that shows a repository file: `docs/` as it is, the rest below `repository/`."""
    if _is_in_site(path):
        return path.removeprefix(DOCS)
    if (ROOT / path).is_dir():
        return f"{REPOSITORY}{path}/index.md"
    return REPOSITORY + (path if path.endswith(".md") else f"{path}.md")


def _is_in_site(path: str) -> bool:
    """Return whether mkdocs itself puts a repository file into the site."""
    return path.startswith(DOCS) and not path.endswith(".py")


def _repository_path(uri: str) -> str:
    """Return the repository path of a page; the inverse of `_site_uri` for Markdown files."""
    return uri.removeprefix(REPOSITORY) if uri.startswith(REPOSITORY) else DOCS + uri


def _resolve(source: str, link: str) -> str | None:
    """Return the repository path that a relative link of the file `source` names; None for other links."""
    if not link or re.match(r"[a-z]+:", link):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return target if (ROOT / target).exists() else None


def _targets(source: str) -> set[str]:
    targets: set[str] = set()

    def collected(link: str) -> str:
        target = _resolve(source, link.partition("#")[0])
        if target is not None:
            targets.add(target)
        return link

    _map_links((ROOT / source).read_text(encoding="utf-8"), collected)
    return targets


def _map_links(markdown: str, change: Callable[[str], str]) -> str:
    """Return the text with every link target outside code blocks passed through `change`."""
    parts = FENCED.split(markdown)  # text and code blocks in turns
    parts[::2] = [LINK.sub(lambda match: match[1] + change(match[2]) + match[3], text) for text in parts[::2]]
    return "".join(parts)


def _content(path: str) -> str:
    """Return the Markdown of the page that shows a repository file."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(child.name for child in file.iterdir() if not child.name.startswith(("_", ".")))
        return _unsearched(f"# {path}\n\n" + "".join(f"- `{name}`\n" for name in names))
    text = file.read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    return _unsearched(f"# {path}\n\n````{LANGUAGES.get(file.suffix, 'text')}\n{text}````\n")


def _unsearched(markdown: str) -> str:
    return f"---\nsearch:\n  exclude: true\n---\n\n{markdown}"
