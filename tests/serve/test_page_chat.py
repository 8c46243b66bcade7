"""The page's chat in a real browser: what is said is held, shown with where it is from, changed and erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, faults, in_a_browser, kept, opened
from serving import Client, Server, key, served

from chat_server import PIECES, streaming_server

pytestmark = in_a_browser
__all__ = ["browser"]  # a fixture

SAID = ("I love hiking in the mountains.", "I live in Bern.", "Where do I live?")


@pytest.fixture
def admin(tmp_path: Path) -> Client:
    return Client(0, key(tmp_path / "m"))


@pytest.fixture
def server(admin: Client, tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path / "m") as running:
        admin.port = running.port
        yield running


def say(page: Any, text: str) -> None:
    """Types it, with Enter, and waits for the reply."""
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")
    page.locator("button.main:enabled").wait_for()
    page.get_by_role("log").get_by_text(text, exact=True).first.wait_for()
    page.locator(".log[aria-busy=false]").wait_for()


def held(page: Any) -> Any:
    return page.locator("section", has=page.get_by_role("heading", name="Held about you")).locator("li")


def recalled(page: Any) -> Any:
    return page.locator("section", has=page.get_by_role("heading", name="Recalled")).locator("li")


def test_what_is_said_is_held_and_a_reply_shows_where_it_is_from(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "chat", viewport={"width": 1100, "height": 900}) as page:
        for text in SAID:
            say(page, text)
        cited = page.get_by_role("log").locator("blockquote mark")
        assert cited.text_content() == "I live in Bern."
        assert "score" in recalled(page).first.text_content()
        assert "I live in Bern." in " ".join(recalled(page).all_text_contents())
        home = held(page).filter(has_text="I live in Bern.")
        assert "from turn 3" in home.text_content()
        kept(page, "chat")
        page.reload()
        page.get_by_text("Where do I live?").wait_for()
        assert page.locator(".said").count() == 6
        assert held(page).count() == 2
    numbers = {one["metadata"]["conversation"] for one in admin.ask("GET", "/v1/chat/turns?user=me").json["turns"]}
    assert numbers == {1}


def test_what_is_held_is_changed_and_counts_at_once(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "chat") as page:
        say(page, "I live in Bern.")
        held(page).get_by_role("button", name="Edit: home").click()
        page.get_by_label("Text").fill("I live in Oslo")
        page.get_by_role("button", name="Save").click()
        held(page).filter(has_text="I live in Oslo").wait_for()
        assert "written by hand" in held(page).text_content()
        say(page, "Where do I live?")
        assert page.locator(".said").last.locator("p.value").text_content() == "I live in Oslo"
        assert admin.ask("GET", "/v1/records/preference%2Fhome?namespace=me").json["value"] == "I live in Oslo"


def test_what_is_erased_is_gone_from_the_page_and_from_the_memory(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "chat") as page:
        page.on("dialog", lambda asked: asked.accept())
        for text in SAID:
            say(page, text)
        held(page).filter(has_text="hiking").get_by_role("button", name="Erase").click()
        held(page).filter(has_text="hiking").wait_for(state="detached")
        assert [one["value"] for one in memories(admin)] == ["I live in Bern."]
        page.get_by_role("log").get_by_role("button", name="Erase: turn 3").click()
        held(page).get_by_text("Nothing yet.").wait_for()
        assert "Bern" not in page.locator("main").text_content()
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    assert memories(admin) == []
    assert b"Bern" not in admin.ask("GET", "/v1/export").body


def test_every_user_has_a_conversation_of_their_own(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "chat") as page:
        say(page, "I love hiking.")
        page.get_by_label("Talking as").fill("bob")
        page.get_by_label("Talking as").press("Tab")
        page.get_by_text("Nothing was said yet.").wait_for()
        say(page, "What do I like?")
        assert "That is not in memory." in page.locator(".said").last.text_content()
        assert "hiking" not in page.locator("main").text_content()


def test_a_key_of_one_namespace_talks_below_it(server: Server, tmp_path: Path, browser: Any) -> None:
    team = Client(server.port, key(tmp_path / "m", "team", may="write"))
    with opened(browser, server, team, "chat") as page:
        say(page, "I live in Bern.")
        say(page, "Where do I live?")
        assert page.locator("blockquote mark").text_content() == "I live in Bern."
        held(page).get_by_role("button", name="Edit: home").click()
        assert page.get_by_label("Text").input_value() == "I live in Bern."
    assert [one["key"] for one in memories(team)] == ["preference/home"]


@pytest.mark.parametrize(("model", "shown"), [("good", "".join(PIECES)), ("breaks", "You love ")])
def test_a_writers_reply_is_shown_and_where_it_breaks_off_that_is_said(
    tmp_path: Path, browser: Any, model: str, shown: str
) -> None:
    admin = Client(0, key(tmp_path / "m"))
    with (
        streaming_server() as writer,
        served(tmp_path / "m", "--writer", writer.spec(model)) as running,
        opened(browser, running, admin, "chat") as page,
    ):
        say(page, "I love hiking.")
        say(page, "What shall I do on Sunday?")
        assert page.locator(".said").last.locator("p.value").text_content() == shown
        assert page.locator(".said").last.get_by_text("The writer failed.").count() == (model == "breaks")
        assert page.locator("blockquote mark").count() == (model == "good")
        assert held(page).filter(has_text="I love hiking.").count() == 1
        kept(page, f"chat-{model}")


def test_it_has_no_serious_fault_and_fits_a_phone(server: Server, admin: Client, browser: Any) -> None:
    looks = [(scheme, locale) for scheme in ("light", "dark") for locale in ("en", "zh-CN")]
    for number, (scheme, locale) in enumerate(looks):
        size = {"width": 320, "height": 640} if number % 2 else {"width": 1000, "height": 900}
        with opened(browser, server, admin, "chat", color_scheme=scheme, locale=locale, viewport=size) as page:
            for text in SAID:
                page.locator("textarea").fill(text)
                page.locator("textarea").press("Enter")
                page.locator("button.main:enabled").wait_for()
                page.locator(".log[aria-busy=false]").wait_for()
            page.locator("blockquote mark").first.wait_for()
            kept(page, f"chat-{scheme}-{locale}")
            assert not (found := faults(page)), json.dumps(found, indent=1)[:4000]
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_the_keyboard_alone_reaches_all_of_it(server: Server, admin: Client, browser: Any) -> None:
    with opened(browser, server, admin, "chat") as page:
        page.get_by_text("Nothing was said yet.").wait_for()
        page.get_by_label("Message").focus()
        page.keyboard.type("It rains.")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("I love hiking.")
        page.keyboard.press("Enter")
        held(page).filter(has_text="hiking").wait_for()
        reached = set()
        for _ in range(8):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))
        assert any(name.startswith("Edit: ") for name in reached)
        assert any(name.startswith("Erase: ") for name in reached)


def memories(client: Client) -> list[dict[str, Any]]:
    return client.ask("GET", "/v1/chat/memories?user=me").json["memories"]
