"""A page of the server in a real browser. EXTMEM_SCREENSHOTS names a folder for what it looked like."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import Client, Server

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
in_a_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def opened(browser: Any, server: Server, admin: Client, view: str, **options: Any) -> Iterator[Any]:
    """A page with a key in its tab; a script error or a refused resource fails the test."""
    context = browser.new_context(**{"locale": "en", **options})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.add_init_script(f"location.host && sessionStorage.setItem('extmem.key', {json.dumps(admin.key)})")
    page.goto(f"http://127.0.0.1:{server.port}/#{view}")
    page.wait_for_selector("h1")
    try:
        yield page
    finally:
        context.close()
    assert not wrong


def kept(page: Any, name: str) -> None:
    if folder := os.environ.get("EXTMEM_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def faults(page: Any) -> list[dict[str, Any]]:
    """What axe-core finds wrong that is serious."""
    found = axe.Axe().run(page).response["violations"]
    return [one for one in found if one["impact"] in ("serious", "critical")]
