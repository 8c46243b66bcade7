"""What all tests share: one thread, hypothesis without deadlines, one tiny trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch
from hypothesis import settings

import small_language
from extmem import LanguageModel
from postgres_server import HOMES, PostgresServer, running_server

torch.set_num_threads(1)  # networks this small are fastest so
settings.register_profile("extmem", deadline=None, derandomize=True)
settings.load_profile("extmem")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve topics of Python's manual, a file each, and two more beside: manual.txt, held-out.txt."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "corpus").mkdir()
    names = sorted(topics)
    for name in names[:12]:
        (folder / "corpus" / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    (folder / "manual.txt").write_text(topics["with"], encoding="utf-8")
    (folder / "held-out.txt").write_text(topics["while"] + "\n\n" + topics["try"], encoding="utf-8")
    return folder / "corpus"


@pytest.fixture(scope="session")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model of 32 units, trained for two epochs; its folder is `corpus.parent / "model"`."""
    return LanguageModel.train(
        corpus, corpus.parent / "model", epochs=2, units=32, embedding=32, batch=4, slots=4, capacity=50
    )


@pytest.fixture(scope="session")
def translating(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A translator of a small language, trained for some seconds; its folder is that of no other fixture."""
    folder = tmp_path_factory.mktemp("translating")
    source, target = small_language.write(folder)
    sizes = {"embedding": 48, "units": 48, "batch": 16, "average": 0, "sampled": 0, "dropout": 0.1, "warmup": 10}
    return LanguageModel.train(
        target, folder / "model", source=source, recipe="translator", tokenizer="words",
        epochs=30, learning_rate=1e-2, patience=30, **sizes,
    )  # fmt: skip


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server, started once and stopped at the end."""
    if not HOMES:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with running_server() as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of tests/faults, after a full run."""
    figures = sys.modules.get("figures")
    if figures is not None and figures.FULL and figures.TABLE:
        terminalreporter.write_line(f"\n{figures.table()}")
