"""Write the live help of every verb into its page under docs/verbs: `python -m tests.update_docs`.

The help stands between `<!-- help:VERB -->` and `<!-- /help -->`; `tests/unit/test_docs.py` checks that it is current.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
from click.testing import CliRunner

from compress.cli.main import VERBS, cli
from tests import json_reference

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "verbs"
INDEX = ROOT / "docs" / "index.md"
WIDTH = 98  # what click uses on a terminal of a hundred columns or more: `max_content_width` less a margin of two


def help_of(*words: str) -> str:
    """Return what `compress WORDS --help` prints on a wide terminal."""
    result = CliRunner().invoke(cli, [*words, "--help"], prog_name="compress", terminal_width=WIDTH)
    assert result.exit_code == 0, result.output
    return result.output.rstrip("\n")


def commands_of(verb: str) -> list[tuple[str, ...]]:
    """Return the verb, and for a group also each of its subcommands."""
    command = cli.get_command(click.Context(cli), verb)
    return [(verb,), *((verb, name) for name in (command.commands if isinstance(command, click.Group) else ()))]


def block(verb: str) -> str:
    """Return the section between the markers of a verb's page, markers included."""
    helps = "\n\n".join(f"```text\n{help_of(*words)}\n```" for words in commands_of(verb))
    return f"<!-- help:{verb} -->\n{helps}\n<!-- /help -->"


def updated(text: str, verb: str) -> str:
    """Return a page's text with the live help in its block.

    Raises:
        ValueError: the page does not have exactly one block of this verb.
    """
    pattern = re.compile(rf"<!-- help:{re.escape(verb)} -->.*?<!-- /help -->", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"the page of {verb} needs one block from '<!-- help:{verb} -->' to '<!-- /help -->'")
    return pattern.sub(lambda _: block(verb), text)


def with_decisions(text: str) -> str:
    """Return the index with one line for each decision record, by its title."""
    rows = [
        f"- [{read(path).splitlines()[0].removeprefix('# ')}](decisions/{path.name})"
        for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))
    ]
    pattern = re.compile(r"^- \[\d{4} .*\]\(decisions/[\w-]+\.md\)\n", re.MULTILINE)
    start = pattern.search(text)
    assert start is not None
    return text[: start.start()] + "\n".join(rows) + "\n" + pattern.sub("", text[start.start() :])


def read(path: Path) -> str:
    """Return a page's text."""
    return path.read_text(encoding="utf-8")


def write_if_changed(path: Path, text: str) -> None:
    """Write a page whose text is out of date, and name it."""
    if text != read(path):
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: updated")


def main() -> None:
    """Rewrite every page that is out of date, and name it."""
    for verb in VERBS:
        path = PAGES / f"{verb}.md"
        write_if_changed(path, updated(read(path), verb))
    write_if_changed(json_reference.PAGE, json_reference.updated(read(json_reference.PAGE)))
    write_if_changed(INDEX, with_decisions(read(INDEX)))


if __name__ == "__main__":
    main()
