"""The view of results in a real browser: a text is measured, and its figures are plots."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from browsing import browser, faults, in_a_browser, kept, opened
from serving import Client, Server, key, served

from extmem import LanguageModel, Memory

pytestmark = in_a_browser
__all__ = ["browser"]  # a fixture

TEXT = topics["while"] + "\n\n" + topics["try"]


@pytest.fixture(scope="module")
def server(model: LanguageModel, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("results") / "memory"
    with Memory(folder) as memory:
        model.memorize(memory, {path.stem: path.read_text() for path in sorted(corpus.iterdir())[:3]})
    with served(folder, "--model", str(corpus.parent / "model")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: Server) -> Client:
    return Client(server.port, key(server.folder))


def test_a_chosen_file_is_measured_and_its_figures_are_drawn_and_told(
    server: Server, admin: Client, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "held.txt").write_text(TEXT)
    with opened(browser, server, admin, "results") as page:
        page.get_by_text("Nothing has been measured yet").wait_for()
        kept(page, "results-empty")
        page.locator("input[type=file]").set_input_files(tmp_path / "held.txt")
        page.wait_for_function("document.querySelector('textarea').value")
        page.get_by_role("button", name="Measure").focus()
        page.keyboard.press("Enter")
        page.locator(".plot").first.wait_for(timeout=60_000)
        found = admin.ask("GET", "/v1/results").json["results"][0]
        assert page.locator(".plot").count() == 3
        told = page.get_by_role("img", name=re.compile("^Perplexity")).get_attribute("aria-label")
        for row in ("model", "cache", "datastore", "memory"):
            value = found["perplexity"][row]
            assert (f"{value:.1f}" if value < 1000 else f"{round(value):,}") in told
        assert page.locator("svg .of-datastore circle").count() >= len(found["reliability"]["datastore"])
        page.get_by_text("All figures").click()
        assert page.locator("tbody tr").count() == 4
        assert f"{found['bits_per_character']['memory']:.3f}" in page.locator("tbody").text_content()


def test_it_opens_with_what_was_measured_and_each_can_be_chosen(server: Server, admin: Client, browser: Any) -> None:
    for text in (TEXT, TEXT[:1500]):
        assert admin.ask("POST", "/v1/evaluate", {"text": text}).status == 200
    newest, before = admin.ask("GET", "/v1/results").json["results"][:2]
    with opened(browser, server, admin, "results") as page:
        choice = page.get_by_label("Measured")
        assert f"{newest['tokens']:,} tokens" in choice.locator("option:checked").text_content()
        choice.select_option(index=1)
        told = page.get_by_role("img", name=re.compile("^Perplexity")).get_attribute("aria-label")
        assert f"{before['perplexity']['memory']:.1f}" in told or f"{round(before['perplexity']['memory']):,}" in told


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_plots_have_no_serious_fault_and_fit_a_phone(
    server: Server, admin: Client, browser: Any, scheme: str
) -> None:
    assert admin.ask("POST", "/v1/evaluate", {"text": TEXT}).status == 200
    for locale, width in (("en", 1000), ("zh-CN", 320)):
        size = {"width": width, "height": 700}
        with opened(browser, server, admin, "results", color_scheme=scheme, locale=locale, viewport=size) as page:
            page.locator(".plot").first.wait_for()
            page.locator("summary").click()
            kept(page, f"results-{scheme}-{locale}")
            assert not (found := faults(page)), json.dumps(found, indent=1)[:4000]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
