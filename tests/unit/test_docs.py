"""The documentation says what the code does: live help, working links, every verb, key and exit code."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from compress import api
from compress.cli.main import VERBS, cli
from compress.core import errors, yaml_file
from compress.recipe import load, verbs
from compress.recipe.schema import Gates
from tests import update_docs

ROOT = update_docs.ROOT
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "eval").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_that_ends_with_its_live_help(verb: str) -> None:
    text = read(update_docs.PAGES / f"{verb}.md")
    assert text == update_docs.updated(text, verb), "run: python -m tests.update_docs"
    assert text.rstrip().endswith("<!-- /help -->")
    assert "\n## Options\n" in text


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_page_is_short_before_its_options(verb: str) -> None:
    text = read(update_docs.PAGES / f"{verb}.md").partition("\n## Options\n")[0]
    assert len(text.splitlines()) < 120, "move results to docs/results and details to where they belong"


def test_there_is_no_page_of_a_verb_that_does_not_exist() -> None:
    assert {path.stem for path in update_docs.PAGES.glob("*.md")} == set(VERBS)


def test_a_page_without_its_block_is_refused() -> None:
    with pytest.raises(ValueError, match="needs one block"):
        update_docs.updated("# compress prune\n", "prune")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", read(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(read(target)), f"{link} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_and_tables_in_lists_are_indented_by_four_spaces(page: Path) -> None:
    lines = FENCED.sub("", read(page)).splitlines()  # fewer spaces end the list in the site, though not on a code host
    assert [line for line in lines if re.match(r" {1,3}(```|\|)", line)] == []


def resolves(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, attribute = name.rpartition(".")
        return bool(parent) and resolves(parent) and hasattr(importlib.import_module(parent), attribute)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_modules_and_functions_that_a_page_names_exist(page: Path) -> None:
    text = read(page).partition("\n## What was rejected\n")[0]  # a record may name what was decided against
    paths = re.findall(r"(?<![\w/])(?:\.\./)*((?:compress|tests|eval|docs|recipes)/[\w./-]+\.(?:py|yaml|md|svg))", text)
    assert [path for path in sorted(set(paths)) if not (ROOT / path).exists()] == []
    names = {name for name in re.findall(r"(?<![\w/.])compress(?:\.[A-Za-z_]\w*)+", text) if not name.endswith((".json", ".yaml"))}
    assert [name for name in sorted(names) if not resolves(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_named_next_to_a_link_to_their_file_are_in_it(page: Path) -> None:
    text = read(page).partition("\n## What was rejected\n")[0]
    link = r"\[[^\]]*\]\(([^)\s]+\.py)\)"
    mentions = [
        (path, name)
        for names, path in re.findall(rf"((?:`\w+`(?:, | and |\s))+)(?:in|of)\s{link}", text)
        for name in re.findall(r"`(\w+)`", names)
    ]
    mentions += re.findall(rf"{link}, `(\w+)`(?!,|\sand\s|\s(?:in|of)\s)", text)
    assert [(path, name) for path, name in mentions if not re.search(rf"\b{name}\b", read(page.parent / path))] == []


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(read(index))}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} - linked == {index}


def test_the_index_calls_every_decision_by_its_title() -> None:
    text = read(update_docs.INDEX)
    assert text == update_docs.with_decisions(text), "run: python -m tests.update_docs"


def test_the_recipe_page_names_every_key() -> None:
    text = read(ROOT / "docs" / "recipes.md")
    keys = {name for verb in verbs.VERBS.values() for name in verb.settings.model_fields} | set(Gates.model_fields)
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


@pytest.mark.parametrize("page", ["README.md", "docs/recipes.md"])
def test_the_recipes_shown_are_recipes(page: str) -> None:
    shown = re.findall(r"```yaml\n(schema:.*?)```", read(ROOT / page), re.DOTALL)
    assert shown
    for text in shown:
        assert load.build(yaml_file.parse(text, page), page, ROOT).stages


def test_the_exit_codes_page_names_every_code() -> None:
    codes = {error.exit_code for error in [errors.CompressError, *errors.CompressError.__subclasses__()]}
    text = read(ROOT / "docs" / "exit-codes.md")
    assert [code for code in sorted(codes) if f"| {code} |" not in text] == []


SETTINGS_VERBS = ("finetune", "prune", "distill", "factorize", "share", "export", "quantize", "eval", "bench")


def commands(text: str) -> list[str]:
    """Return the commands of a page that a reader may copy: those in code blocks, the help's examples among them."""
    text = text.replace("\\\n", " ")
    for name, value in re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE):
        text = text.replace(f"${name}", value)
    for name, value in re.findall(r"^(\w+)=\((.*?)\)", text, re.MULTILINE):
        text = text.replace(f'"${{{name}[@]}}"', value)
    lines = re.findall(
        r"^\s*(?:\$ |torchrun .* -m |accelerate .* -m )?(compress (?:\w+) .*)$", "\n".join(FENCED.findall(text)), re.MULTILINE
    )
    return [line for line in lines if line.split()[1] in SETTINGS_VERBS and "…" not in line]


EXAMPLES = [(page, line) for page in PAGES for line in dict.fromkeys(commands(read(page)))]


@pytest.mark.parametrize(("page", "line"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_the_commands_shown_are_accepted(page: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Accepted(Exception):
        """The settings were checked; what follows would be the work."""

    def accept(*_: object, **__: object) -> None:
        raise Accepted

    monkeypatch.setattr(api, "run_single", accept)
    monkeypatch.setattr(api, "plan_single", accept)
    monkeypatch.chdir(tmp_path)
    Path("reviews.yaml").write_text("text: [sentence]\ntrain: train.csv\n", encoding="utf-8")  # the tasks of the examples
    Path("rerank.yaml").write_text("kind: text-ranking\nbeir: folder\nrun: candidates.run\n", encoding="utf-8")
    result = CliRunner().invoke(cli, shlex.split(line, comments=True)[1:])
    assert isinstance(result.exception, Accepted), f"{line}\n{result.output}{result.exception}"
