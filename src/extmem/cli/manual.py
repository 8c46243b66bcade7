"""The demo's text, which is on every machine that has Python: its manual and its docstrings.

Knows: where Python keeps them. Does not know: models. Nothing is imported to be read.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from extmem.errors import CorpusError

_UNDERLINE = re.compile(r"^[ \t]*([-=*~^+|])(?:[ \t]*[-=*~^+|])*[ \t]*$\n?", re.M)  # of headings; frames of tables
_CODE = re.compile(r'"([^"\s]+)"|``([^`\n]+)``|`([^`\'\s]+)[`\']')  # "with", ``with``, `with'
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__"}


@dataclass(frozen=True)
class Manual:
    """`docstrings` of the standard library, to train on; topics of the manual by name: some to
    `memorize`, some to `fit` the mixture on, some to be `measured`. A paragraph of the last two that
    also stands in the docstrings or among the memorized is left out; so are, everywhere, the lines
    under headings (a run of asterisks is no feat to predict) and the quotes that mark code."""

    docstrings: list[str]
    memorize: dict[str, str]
    fit: str
    measured: str


def read_manual() -> Manual:
    """Cuts the manual's topics in the order of their names: of ten, two are measured, one is fitted on."""
    from pydoc_data.topics import topics

    docstrings = list(_docstrings(Path(sysconfig.get_path("stdlib"))))
    if not docstrings:
        raise CorpusError("this Python came without its library's source: install it, then try again.")
    names = sorted(topics)
    plain = {name: _plain(topics[name]) for name in names}
    memorize = {name: plain[name] for number, name in enumerate(names) if number % 10 not in (0, 3, 5)}
    seen = {paragraph for text in [*docstrings, *memorize.values()] for paragraph in _paragraphs(text)}

    def fresh(digits: tuple[int, ...]) -> str:
        chosen = [plain[name] for number, name in enumerate(names) if number % 10 in digits]
        new = dict.fromkeys(p for text in chosen for p in _paragraphs(text) if p not in seen)
        seen.update(new)
        return "\n\n".join(new) + "\n"

    return Manual(docstrings, memorize, fresh((3,)), fresh((0, 5)))


def _plain(text: str) -> str:
    return _CODE.sub(lambda found: found[1] or found[2] or found[3], _UNDERLINE.sub("", text))


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in (part.strip() for part in text.split("\n\n")) if paragraph]


def _docstrings(library: Path) -> Iterator[str]:
    """Every docstring of the standard library once, in the order of its files."""
    seen: set[str] = set()
    for file in sorted(library.rglob("*.py")):
        if _SKIPPED & set(file.relative_to(library).parts):
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        for node in _statements(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = _plain(inspect.cleandoc(ast.get_docstring(node) or "")).strip()
                if text and text not in seen:
                    seen.add(text)
                    yield text


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """A module and its statements, in the order of `ast.walk`, which goes through every expression as well."""
    todo: deque[ast.AST] = deque([tree])
    while todo:
        node = todo.popleft()
        yield node
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            todo.extend(getattr(node, part, ()))
