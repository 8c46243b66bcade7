"""Takes the pictures of docs/page.md: what `extmem demo --serve` shows, in Debian's chromium.

Knows: the page's views as a person finds them. Does not know: how they are made.

.venv/bin/python scripts/screenshots.py          # trains the demo first: minutes
.venv/bin/python scripts/screenshots.py LINK     # of a demo that runs: talks in its chat, forgets one of its records
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "page"
WIDE, PHONE = {"width": 900, "height": 860}, {"width": 390, "height": 760}
COLOURS = 96
PROMPT = "A function definition"
ENGLISH = ("I live in Bern, and I don't eat meat.", "I moved to Lyon.", "Where do I live?")
CHINESE = ("我叫小林，我住在杭州。", "我喜欢爬山。", "我住在哪里？")


@contextmanager
def demo() -> Iterator[str]:
    """The link to the page of a demo, which ends afterwards."""
    extmem = Path(sys.executable).with_name("extmem")
    with tempfile.TemporaryDirectory() as folder:
        command = [extmem, "demo", "--serve", "--json", "--page", f"{folder}/demo.html"]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield json.loads(running.stdout.readline())["served"]
        finally:
            running.terminate()
            running.wait()


def memory(page: Page) -> None:
    page.get_by_label("Search").fill("how is an exception handled")
    page.get_by_role("button", name="Search").click()
    page.locator(".why").first.wait_for()


def write(page: Page) -> None:
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_label("Compare with and without memory").check()
    page.get_by_role("button", name="Write", exact=True).click()
    page.locator(".token.cited").nth(3).wait_for(timeout=60_000)
    page.locator("button.main:enabled").wait_for(timeout=60_000)
    page.locator(".token.cited").nth(3).focus()
    page.locator(".cites blockquote").first.wait_for()


def chat(page: Page, lines: tuple[str, ...] = ENGLISH) -> None:
    for line in lines:
        page.locator("form textarea").fill(line)
        page.locator("form textarea").press("Enter")
        page.locator(
            ".log[aria-busy=false] .said:last-child button, .log[aria-busy=false] .said:last-child .value"
        ).wait_for()
        page.locator("button.main:enabled").wait_for()


def chinese(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.locator("#language").click()
    page.locator(".talk input").fill("xiaolin")
    page.locator(".talk input").press("Tab")
    page.locator(".log > *").first.wait_for()
    chat(page, CHINESE)


def results(page: Page) -> None:
    page.locator(".plot").first.wait_for()


def compare(page: Page) -> None:
    page.get_by_label("Record").select_option("function")
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_role("button", name="Write with it").click()
    page.get_by_role("button", name="Forget it and compare").click(timeout=60_000)
    page.locator("main > p[role=status]:not(:empty)").wait_for(timeout=60_000)


def phone(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.get_by_label("Compare with and without memory").uncheck()
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_role("button", name="Write", exact=True).click()
    page.locator(".token.cited").nth(3).wait_for(timeout=60_000)
    page.locator("button.main:enabled").wait_for(timeout=60_000)
    page.locator(".token.cited").nth(3).click()
    page.locator(".cites blockquote").first.wait_for()


PICTURES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "memory": ("memory", memory),
    "write": ("write", write),
    "chat": ("chat", chat),
    "results": ("results", results),
    "phone": ("write", phone),
    "compare": ("compare", compare),
    "chinese": ("chat", chinese),
}


def pictures(page: Page, link: str) -> None:
    page.on("dialog", lambda asked: asked.accept())
    page.goto(link)
    page.locator("h1").wait_for()
    for name, (view, does) in PICTURES.items():
        page.set_viewport_size(WIDE)
        page.evaluate("location.hash = ''")
        page.goto(f"{link.partition('#')[0]}#{view}")
        page.locator(f"nav a[aria-current][href='#{view}']").wait_for()
        does(page)
        page.wait_for_timeout(500)  # letters and notices come to rest
        place = FOLDER / f"{name}.png"
        page.screenshot(path=place, full_page=name not in ("memory", "phone"), animations="disabled")
        Image.open(place).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(place, optimize=True)
        print(f"{place.name}: {place.stat().st_size:,} bytes")


def main(link: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as play:
        browser: Any = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        pictures(browser.new_page(locale="en", color_scheme="light"), link)
        browser.close()


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1])
    else:
        with demo() as link:
            main(link)
