"""The demo as a person runs it, on some of its docstrings and with one epoch of training instead of three."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from extmem.cli.manual import Manual, read_manual

EXTMEM = str(Path(sys.executable).with_name("extmem"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict, Path, subprocess.Popen]]:
    """What `extmem demo --serve --json` printed, where, and the process, whose page is still open."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "tmp").mkdir()
    words = [EXTMEM, "demo", "--json", "--epochs", "1", "--docstrings", "700", "--page", "page.html", "--serve"]
    env = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
    try:
        said = process.stdout.readline()
        assert said, (folder / "log").read_text()
        yield json.loads(said), folder, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def demo(served) -> tuple[dict, str, Path]:
    """What the demo printed, the page it wrote, and where."""
    report, folder, _ = served
    return report, (folder / "page.html").read_text(encoding="utf-8"), folder


def test_the_memory_lowers_the_perplexity_of_text_it_has_not_seen(demo):
    perplexity = demo[0]["perplexity"]
    assert perplexity["memory"] < 0.85 * perplexity["model"]
    assert perplexity["memory"] < min(perplexity["cache"], perplexity["datastore"])
    assert demo[0]["seconds"] > 0


def test_a_stored_fact_changes_the_answer_and_forgetting_it_changes_it_back(demo):
    fact = demo[0]["fact"]
    assert fact["stored"] != fact["before"] == fact["forgotten"]
    assert "tamarind" in fact["stored"]
    assert demo[0]["forgotten_equals_never_stored"] is True


@pytest.fixture(scope="module")
def manual() -> Manual:
    return read_manual()


def test_what_is_generated_is_cited_from_the_topics_that_were_memorized(demo, manual):
    known = manual.memorize
    cited = [(token, place) for token in demo[0]["generated"]["tokens"] for place in token["citations"]]
    assert cited
    for token, place in cited:
        assert known[place["key"]][place["start"] : place["end"]] == token["text"] or token["text"] == "<eos>"


def test_what_is_measured_is_neither_in_the_docstrings_nor_in_the_memory(manual):
    seen = {part.strip() for text in [*manual.docstrings, *manual.memorize.values()] for part in text.split("\n\n")}
    for held in (manual.fit, manual.measured):
        assert len(held) > 10_000
        assert not seen & {part.strip() for part in held.split("\n\n")}
    assert not {part.strip() for part in manual.fit.split("\n\n")} & set(manual.measured.split("\n\n"))


def test_the_page_is_one_whole_file_with_every_citation_and_nothing_from_elsewhere(demo):
    report, page, folder = demo
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br", "html"):
                opened.append(tag)

        def handle_endtag(self, tag):
            if tag != "html":
                assert opened.pop() == tag

    Reader().feed(page)
    assert opened == []
    assert not re.search(r"<script|https?:|@import|url\(", page)
    for figure in ("model", "cache", "datastore", "memory"):
        assert f"{report['perplexity'][figure]:.1f}" in page
    cited = sum(bool(token["citations"]) for token in report["generated"]["tokens"])
    assert page.count("class=why") >= cited > 0
    assert {path.name for path in folder.iterdir()} == {"page.html", "log", "tmp"}


def test_a_page_stays_open_on_its_memory_and_leaves_nothing_when_it_is_closed(served):
    report, folder, process = served
    address, _, link = report["served"].partition("/#link=")

    def ask(path: str, said: dict | None = None, key: str = "") -> bytes:
        given = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        body = None if said is None else json.dumps(said).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{address}{path}", body, given)) as answer:
            return answer.read()

    assert b"/page/main.js" in ask("/")
    session = json.loads(ask("/v1/session", {"link": link}))["session"]
    assert json.loads(ask("/v1/stats", key=session))["records"] > 10
    (measured,) = json.loads(ask("/v1/results", key=session))["results"]
    assert measured["perplexity"] == report["perplexity"]
    assert json.loads(ask("/v1/generate", {"prompt": "A function definition", "max_tokens": 1}, session))["tokens"]
    assert list((folder / "tmp").glob("extmem-demo-*/manual.mem"))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not list((folder / "tmp").glob("extmem-demo-*"))
    assert process.stdout.read() == ""
