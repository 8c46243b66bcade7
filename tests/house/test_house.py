"""The rules of the house, as statements about its files."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import extmem

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_file_holds_one_concept_and_says_what_it_knows(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    assert path.stem not in {"utils", "common", "helpers", "misc", "manager"}
    opening = ast.get_docstring(ast.parse(text)) or ""
    assert "Knows:" in opening
    assert "NotImplementedError" not in text
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 70, node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"line {node.lineno} prints"


def test_public_names_are_few_and_all_there():
    assert extmem.__all__ == sorted(extmem.__all__)
    assert len(extmem.__all__) <= 18  # thirteen of our own, five for models of Hugging Face's
    for name in extmem.__all__:
        assert getattr(extmem, name) is not None


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        *((code, "torch faiss numpy") for code in ("import extmem", "import extmem.memory", "import extmem.cli")),
        ("from extmem.text.words import WordTokenizer; WordTokenizer().encode('A plain sentence.')", "nltk torch"),
        ("import extmem.tasks.classify", "torch"),
    ],
)
def test_importing_loads_nothing_that_is_slow_to_load(code, heavy):
    loaded = f"{code}; import sys; print([m for m in {heavy.split()} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDED = {"adapters.md": ("langchain_core", "llama_index.core")}  # `make adapters` runs that page
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_the_docs_runs(page, model, corpus, tmp_path, monkeypatch):
    for needed in NEEDED.get(page.name, ()):
        pytest.importorskip(needed, reason=f"{needed} is not installed here: `make adapters` runs this page")
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "model", "manual.txt", "held-out.txt"):
        (tmp_path / name).symlink_to(corpus.parent / name)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    if page.name.startswith("README"):
        assert names["text"].tokens
        assert names["memory"].retrieve("apple") is None


def test_the_commands_of_the_readme_run_as_they_stand(model, corpus, tmp_path):
    for name in ("corpus", "manual.txt", "held-out.txt"):
        (tmp_path / name).symlink_to(corpus.parent / name)
    typed = next(block for block in blocks(ROOT / "README.md", "sh") if block.startswith("extmem store"))
    assert typed in blocks(ROOT / "README.zh-CN.md", "sh")
    ran = subprocess.run(
        ["bash", "-euxc", typed], cwd=tmp_path, env={**os.environ, "PATH": PATH}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("A fruit\n")
    for shown in ("validation perplexity", "entries added", "+ both", "The with statement"):
        assert shown in ran.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.name)
def test_a_session_of_the_docs_prints_what_stands_there(page, tmp_path):
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            ran = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env={**os.environ, "PATH": PATH}, capture_output=True, text=True
            )
            assert ran.stdout == expected.lstrip("\n"), f"{command}\n{ran.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_docs_exists(page):
    from typer.main import get_command

    from extmem.cli import app

    commands = get_command(app).commands
    targets = re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.M)
    lines = [line.split("#")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    for line in filter(None, lines):
        words = line.split()
        if words[0] == "make":
            assert any(words[1] in target.split() for target in targets), line
        elif words[0].endswith("extmem"):
            options = {option for parameter in commands[words[1]].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line


def test_the_command_reference_is_what_the_commands_say():
    said = subprocess.run(
        [sys.executable, "scripts/cli_reference.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
