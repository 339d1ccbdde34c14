"""README and documentation: commands parse, links and images exist, every page is in the navigation."""

import ast
import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from gammer_lightning import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
A_RUN = re.compile(r"(RUN|wandb:)")
"""Stands in a command for what the command before it has made."""


def page_name(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def block_commands(page):
    lines = [line.split(" #")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def inline_commands(page):
    """Commands in running text, e.g. `gammer sweep run`; they may lack their arguments."""
    prose = CODE.sub("", page.read_text())
    return [" ".join(words.split()) for words in re.findall(r"`(gammer [^`]+)`", prose)]


def all_commands(commands_of):
    return sorted({command for page in PAGES for command in commands_of(page) if command.startswith("gammer ")})


def links(page):
    """(is an image, text, target) of each link of a page."""
    return [(mark == "!", text, target) for mark, text, target in LINK.findall(CODE.sub("", page.read_text()))]


@cache
def anchors(page):
    """Anchors of a page's headings, as Python-Markdown and GitHub make them."""
    titles = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_the_two_commands_come_first():
    assert block_commands(PAGES[0])[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    for command in block_commands(page):
        if command.startswith("make "):
            assert f"\n{command.split()[-1]}:" in makefile, command


@pytest.mark.parametrize("command", all_commands(block_commands))
def test_command_parses(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    name, argv = cli.find_verb(shlex.split(command)[1:])
    if not hasattr(cli.verb_module(name), "add_arguments"):
        if any(A_RUN.match(word) for word in argv):
            return
        with pytest.raises(SystemExit) as stop:
            cli.main([*name.split(), *argv, "--print_config"])
        assert stop.value.code == 0
    else:
        cli.verb_parser(name).parse_args(argv)


@pytest.mark.parametrize("command", all_commands(inline_commands))
def test_command_in_running_text_has_a_verb(command):
    words = shlex.split(command)[1:]
    if words[0] in ("--help", "--version", "VERB"):
        return
    name, argv = cli.find_verb(words)
    if hasattr(cli.verb_module(name), "add_arguments") and "--help" not in argv:
        options = {option for action in cli.verb_parser(name)._actions for option in action.option_strings}
        assert {word for word in argv if word.startswith("--")} <= options


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_to_files_and_headings(page):
    for _, _, target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{target}: no such file"
        assert file.is_relative_to(ROOT)
        assert page == PAGES[0] or file.is_relative_to(DOCS), f"{target}: lies outside the built pages"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_image_has_a_text(page):
    for is_image, text, target in links(page):
        if is_image:
            assert len(text.split()) >= 4, f"{target}: say in words what it shows"


def nav_files(nav):
    for entry in nav:
        for value in entry.values():
            yield from nav_files(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(nav_files(nav)) == sorted(str(page.relative_to(DOCS)) for page in PAGES[1:])


def test_readme_links_to_every_workflow():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    workflows = next(entry["Workflows"] for entry in nav if "Workflows" in entry)
    targets = {target.partition("#")[0] for _, _, target in links(PAGES[0])}
    assert {f"docs/{file}" for file in nav_files(workflows)} <= targets


def test_pictures_and_result_pages_are_small():
    for file in [*DOCS.glob("images/*"), *DOCS.glob("results/*")]:
        assert file.stat().st_size < 500_000, file.name


PYTHON = [(page, number, text) for page in PAGES for number, text in enumerate(blocks(page, "python"))]


@pytest.mark.parametrize(("page", "number", "text"), PYTHON, ids=[f"{page_name(p)}-{n}" for p, n, _ in PYTHON])
def test_python_imports_what_exists(page, number, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                import_module(alias.name)


def test_each_module_of_the_reference_exists():
    for page in DOCS.glob("reference/*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            path = ROOT.joinpath(*name.split("."))
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name


def test_diagram_is_what_its_script_draws():
    namespace = {"__name__": "draw_pipeline"}
    exec((DOCS / "draw_pipeline.py").read_text(), namespace)
    assert (DOCS / "images" / "pipeline.svg").read_text() == namespace["drawing"]()
